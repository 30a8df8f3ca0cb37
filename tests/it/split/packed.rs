//! Compressed file systems: blocks end where files end. Against a plain model, on real images, and frozen.

use std::fs;

use hfl::split::{Cut, Rule};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::{check_cuts, cuts, cuts_in_pieces, upload};
use crate::support::lab::{Lab, Random, make_tree, tool};

const KIB: usize = 1 << 10;
/// Block size of the squashfs that are built here.
const FULL: usize = 16 * KIB;

/// A part of a squashfs.
#[derive(Clone, Copy, Debug)]
enum Item {
    /// A unit that unpacks to this many bytes.
    Unit(usize),
    /// So many bytes that are in no unit.
    Raw(usize),
}

#[derive(Clone, Copy, Debug)]
enum Packer {
    Gzip = 1,
    Zstd = 6,
}

/// A unit with stored contents, so that its bytes depend on no compressor.
fn unit(packer: Packer, contents: &[u8]) -> Vec<u8> {
    match packer {
        Packer::Gzip => {
            let (low, high) = contents.iter().fold((1, 0), |(low, high), &byte| {
                let low = (low + u32::from(byte)) % 65521;
                (low, (high + low) % 65521)
            });
            let len = contents.len() as u16;
            let header = [&[0x78, 1, 1][..], &len.to_le_bytes(), &(!len).to_le_bytes()].concat();
            [&header, contents, &(high << 16 | low).to_be_bytes()].concat()
        }
        Packer::Zstd => {
            let size = (contents.len() - 256) as u16;
            let block = (contents.len() as u32) << 3 | 1;
            let header = [&b"\x28\xb5\x2f\xfd\x60"[..], &size.to_le_bytes(), &block.to_le_bytes()[..3]].concat();
            [&header, contents].concat()
        }
    }
}

/// A squashfs of these items, padded to sectors of 2048 bytes, and the lengths of the items in it.
fn squashfs(packer: Packer, items: &[Item], seed: u64) -> (Vec<u8>, Vec<(Item, usize)>) {
    let mut random = Random(seed);
    let mut image = vec![0; 96];
    let mut lengths = vec![(Item::Raw(96), 96)];
    for &item in items {
        let bytes = match item {
            Item::Unit(size) => unit(packer, &random.bytes(size)),
            // No zeros, which may be a hole, and no byte that a unit begins with.
            Item::Raw(size) => random.bytes(size).iter().map(|byte| byte & 7 | 1).collect(),
        };
        lengths.push((item, bytes.len()));
        image.extend(bytes);
    }
    let used = image.len() as u64;
    for (at, bytes) in [
        (0, &b"hsqs"[..]),
        (12, &(FULL as u32).to_le_bytes()),
        (20, &[packer as u8]),
        (28, &[4]),
        (40, &used.to_le_bytes()),
    ] {
        image[at..][..bytes.len()].copy_from_slice(bytes);
    }
    (image, lengths)
}

/// Where the blocks end, by the words of the specification.
fn model(image: &[u8], items: &[(Item, usize)]) -> Vec<usize> {
    let gear: Vec<u64> = (0..=255).map(|byte: u8| xxh3_64(&[byte])).collect();
    let (mut ends, mut start, mut at) = (Vec::new(), 0, 0);
    let mut run = 0;
    for &(item, bytes) in items {
        match item {
            Item::Unit(size) => {
                if at > start && at + bytes - start > 1024 * KIB {
                    ends.push(at);
                    start = at;
                }
                at += bytes;
                if at - start >= 256 * KIB || size < FULL && at - start >= 32 * KIB {
                    ends.push(at);
                    start = at;
                }
                run = at;
            }
            Item::Raw(_) => {
                for _ in 0..bytes {
                    at += 1;
                    let window = &image[run.max(at.saturating_sub(64))..at];
                    let hash =
                        window.iter().fold(0u64, |hash, &byte| (hash << 1).wrapping_add(gear[usize::from(byte)]));
                    let limit = match at - start {
                        len if len < 80 * KIB => 0,
                        len if len < 160 * KIB => 1 << 47,
                        _ => 1 << 48,
                    };
                    if hash < limit || at - start == 1024 * KIB {
                        ends.push(at);
                        start = at;
                    }
                }
            }
        }
    }
    ends.extend((image.len() > start).then_some(image.len()));
    ends
}

fn ends(cuts: &[Cut]) -> Vec<usize> {
    cuts.iter().flat_map(|cut| &cut.spans).map(|span| (span.offset + span.len) as usize).collect()
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let item = prop_oneof![
        6 => Just(Item::Unit(FULL)),
        4 => (300..FULL).prop_map(Item::Unit),
        1 => (1..200 * KIB).prop_map(Item::Raw),
    ];
    prop::collection::vec(item, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn blocks_end_where_files_end(items in items(), is_gzip: bool, seed: u64, piece in 1usize..300_000) {
        let packer = if is_gzip { Packer::Gzip } else { Packer::Zstd };
        let (image, lengths) = squashfs(packer, &items, seed);
        let found = cuts(Rule::Content, &image);
        check_cuts(&image, &found);
        prop_assert_eq!(ends(&found), model(&image, &lengths));
        prop_assert!(cuts_in_pieces(Rule::Content, &image, &[piece, 70_000], false) == found);
    }

    #[test]
    fn a_squashfs_in_an_iso_is_a_stretch(items in items(), before in 40usize..200, after in 0usize..100, piece in 1usize..9000) {
        let (inner, _) = squashfs(Packer::Zstd, &items, 3);
        let iso = iso(before, &inner, after, 5);
        let found = cuts(Rule::Content, &iso);
        check_cuts(&iso, &found);
        let alone = cuts(Rule::Content, &padded(&inner));
        let within: Vec<&Cut> =
            found.iter().filter(|cut| (before * 2048..before * 2048 + inner.len()).contains(&(cut.spans[0].offset as usize))).collect();
        prop_assert!(within.iter().map(|cut| &cut.bytes).eq(alone.iter().map(|cut| &cut.bytes)));
        prop_assert!(cuts_in_pieces(Rule::Content, &iso, &[piece, 2048, 1], true) == found);
    }

    #[test]
    fn clusters_end_where_files_end(clusters in prop::collection::vec((1usize..17, 1usize..4000), 1..400), piece in 1usize..50_000) {
        let image = erofs(&clusters, 7);
        let found = cuts(Rule::Content, &image);
        check_cuts(&image, &found);
        prop_assert_eq!(ends(&found), model_of_clusters(&image));
        prop_assert!(cuts_in_pieces(Rule::Content, &image, &[piece], true) == found);
    }
}

/// Filled up to whole sectors.
fn padded(image: &[u8]) -> Vec<u8> {
    let mut padded = image.to_vec();
    padded.resize(image.len().next_multiple_of(2048), 0);
    padded
}

/// An ISO 9660 with so many sectors of other files before and after a squashfs.
fn iso(before: usize, squashfs: &[u8], after: usize, seed: u64) -> Vec<u8> {
    let mut iso = Random(seed).bytes((before + after) * 2048);
    iso[..510].fill(1);
    iso[510..512].fill(0);
    iso[1024..1088].fill(1);
    iso[32769..32774].copy_from_slice(b"CD001");
    // Sectors that look as if a squashfs began there.
    iso[34 * 2048..][..4].copy_from_slice(b"hsqs");
    let rest = iso.split_off(before * 2048);
    [iso, padded(squashfs), rest].concat()
}

/// A compressed EROFS of clusters with so many pages and zeros at their front.
fn erofs(clusters: &[(usize, usize)], seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut image = vec![1; 4096];
    image[1024..1028].copy_from_slice(&[0xe2, 0xe1, 0xf5, 0xe0]);
    image[1036] = 12;
    image[1104..1108].copy_from_slice(&[3, 0, 0, 0]);
    for &(pages, zeros) in clusters {
        let mut cluster: Vec<u8> = random.bytes(pages * 4096);
        cluster.iter_mut().step_by(4096).for_each(|first| *first |= 1);
        // Some clusters are all but full.
        let zeros = if pages % 3 == 0 { zeros % 8 } else { zeros };
        cluster[..zeros].fill(0);
        cluster[zeros] |= 1;
        image.extend(cluster);
    }
    image
}

fn model_of_clusters(image: &[u8]) -> Vec<usize> {
    let (mut ends, mut start, mut is_last) = (Vec::new(), 0, false);
    for (index, page) in image.chunks(4096).enumerate() {
        let at = index * 4096;
        let zeros = page.iter().position(|&byte| byte != 0).unwrap_or(0);
        if zeros > 0 {
            if at - start >= 512 * KIB || is_last && at - start >= 28 * KIB {
                ends.push(at);
                start = at;
            }
            is_last = zeros >= 8;
        }
        if at + 4096 - start >= 1024 * KIB {
            ends.push(at + 4096);
            start = at + 4096;
        }
    }
    ends.extend((image.len() > start).then_some(image.len()));
    ends
}

/// The image whose cuts are frozen: an ISO with two squashfs, one of each packing, between other files.
pub fn frozen() -> Vec<u8> {
    let mut random = Random(2026);
    let mut items = |count: usize| -> Vec<Item> {
        let mut item = |_| match random.below(12) {
            0 => Item::Raw(random.below(60_000) as usize + 1),
            1..=5 => Item::Unit(300 + random.below(FULL as u64 - 300) as usize),
            _ => Item::Unit(FULL),
        };
        (0..count).map(&mut item).collect()
    };
    let (zstd, _) = squashfs(Packer::Zstd, &items(60), 11);
    let (gzip, _) = squashfs(Packer::Gzip, &items(60), 12);
    [iso(60, &zstd, 40, 13), padded(&gzip), Random(14).bytes(300_000)].concat()
}

/// The same for a compressed EROFS.
pub fn frozen_erofs() -> Vec<u8> {
    let mut random = Random(2027);
    let clusters: Vec<(usize, usize)> =
        (0..150).map(|_| (1 + random.below(16) as usize, 1 + random.below(4000) as usize)).collect();
    erofs(&clusters, 15)
}

/// Real images of two versions of a tree: what is new costs at most three quarters of what `bytes` needs.
#[test]
fn real_images_share_more() {
    let lab = Lab::new();
    make_tree(&lab.path("tree"), 400, 3);
    for file in 0..400u64 {
        let path = format!("tree/usr/lib/part{:02}/text{file:04}", file % 17);
        let words: String = (0..4000).map(|word| format!("{} ", (word * file) % 977)).collect();
        lab.write(&path, words);
    }
    let kinds: [(&str, &str, &[&str], &[&str]); 4] = [
        ("gzip", "mksquashfs", &["tree"], &["-comp", "gzip", "-noappend", "-quiet", "-no-progress"]),
        ("xz", "mksquashfs", &["tree"], &["-comp", "xz", "-noappend", "-quiet", "-no-progress"]),
        ("zstd", "mksquashfs", &["tree"], &["-comp", "zstd", "-noappend", "-quiet", "-no-progress"]),
        ("erofs", "mkfs.erofs", &["-zlz4hc", "-C65536", "-T1750000000"], &[]),
    ];
    let make = |version: &str| {
        for (name, program, before, after) in kinds {
            let file = format!("{version}.{name}");
            let arguments = match program {
                "mkfs.erofs" => [before, &[&file, "tree"], after].concat(),
                _ => [before, &[&file], after].concat(),
            };
            tool(&lab, program, &arguments, "");
        }
    };
    make("old");
    for file in (0..400u64).step_by(50) {
        lab.write(&format!("tree/usr/lib/part{:02}/file{file:04}", file % 17), Random(file + 9).bytes(150_000));
    }
    make("new");
    for (name, ..) in kinds {
        let read = |version: &str| fs::read(lab.path(&format!("{version}.{name}")));
        let (Ok(old), Ok(new)) = (read("old"), read("new")) else { continue };
        let found = cuts(Rule::Content, &new);
        check_cuts(&new, &found);
        assert!(cuts_in_pieces(Rule::Content, &new, &[100_003], true) == found, "{name}");
        let (by_content, by_bytes) = (upload(Rule::Content, &old, &new), upload(Rule::Bytes, &old, &new));
        assert!(by_content * 4 <= by_bytes * 3, "{name}: {by_content} against {by_bytes} bytes");
    }
}
