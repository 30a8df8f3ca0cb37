//! How `content` divides a disk: by real superblocks and tables, and by tables that lie.

use super::image::{Kind, pages};
use super::{check_cuts, cuts, cuts_in_pieces, spans_of};
use hfl::split::{Cut, PageSize, Rule};
use proptest::prelude::*;

/// Bytes at an offset.
type Part<'a> = (usize, &'a [u8]);

const MIB: usize = 1 << 20;
const EXT4: Part = (1080, &[0x53, 0xef]);
const EXT4_1K: Part = (1048, &[0, 0, 0, 0]);
const EXT4_2K: Part = (1048, &[1, 0, 0, 0]);
const EXT4_4K: Part = (1048, &[2, 0, 0, 0]);
const SIGNATURE: Part = (510, &[0x55, 0xaa]);

/// 4 MiB that each rule cuts otherwise, with these bytes at these offsets.
fn image(parts: &[Part]) -> Vec<u8> {
    let run = [(Kind::Plain, 31), (Kind::Tail, 2), (Kind::Plain, 290), (Kind::DirectoryEnd, 3), (Kind::Tail, 186)];
    let mut image = pages(&[run, run].concat(), 0, 7);
    for &(offset, bytes) in parts {
        image[offset..][..bytes.len()].copy_from_slice(bytes);
    }
    image
}

/// An MBR without code, with these entries.
fn mbr(entries: &[&[u8]]) -> Vec<u8> {
    let mut sector = vec![0; 512];
    for (index, entry) in entries.iter().enumerate() {
        sector[446 + 16 * index..][..16].copy_from_slice(entry);
    }
    sector[510..].copy_from_slice(SIGNATURE.1);
    sector
}

fn mbr_entry(kind: u8, first: u32, count: u32) -> Vec<u8> {
    let mut entry = vec![0, 0, 0, 0, kind, 0, 0, 0];
    entry.extend([first.to_le_bytes(), count.to_le_bytes()].concat());
    entry
}

/// The cuts of each stretch as an image by itself.
fn cuts_of_stretches(image: &[u8], stretches: &[(usize, Rule)]) -> Vec<Cut> {
    let ends = stretches.iter().skip(1).map(|(start, _)| *start).chain([image.len()]);
    let alone = stretches.iter().zip(ends).flat_map(|(&(start, rule), end)| {
        let mut found = cuts(rule, &image[start..end]);
        found.iter_mut().flat_map(|cut| &mut cut.spans).for_each(|span| span.offset += start as u64);
        found
    });
    alone.collect()
}

/// Checks that the image consists of these stretches, each beginning at an offset and cut by a rule.
#[track_caller]
fn check(image: &[u8], stretches: &[(usize, Rule)], what: &str) {
    let found = cuts(Rule::Content, image);
    check_cuts(image, &found);
    assert!(found == cuts_of_stretches(image, stretches), "{what}");
    for length in [511, 70_000, MIB] {
        assert!(cuts_in_pieces(Rule::Content, image, &[length], true) == found, "{what}, {length} bytes at a time");
    }
}

#[test]
fn file_systems_at_the_start() {
    let (one, two) = (Rule::Pages(PageSize::OneKib), Rule::Pages(PageSize::TwoKib));
    let btrfs = (65600, &b"_BHRfS_M"[..]);
    let kinds: [(&str, Rule, &[Part]); 20] = [
        ("ext4", Rule::PAGES, &[EXT4, EXT4_4K]),
        ("ext4 with blocks of 64 KiB", Rule::PAGES, &[EXT4, (1048, &[6, 0, 0, 0])]),
        ("ext4 with blocks of 1 KiB", one, &[EXT4, EXT4_1K]),
        ("ext4 with blocks of 2 KiB", two, &[EXT4, EXT4_2K]),
        ("two bytes that look like ext4", Rule::Bytes, &[EXT4, (1048, &[77])]),
        ("XFS", Rule::PAGES, &[(0, b"XFSB\0\0\x10\0")]),
        ("XFS with blocks of 512 bytes", Rule::Bytes, &[(0, b"XFSB\0\0\x02\0")]),
        ("Btrfs", Rule::PAGES, &[btrfs, (65724, &[0x41, 3, 0, 0, 0, 0, 0, 0])]),
        ("Btrfs with LZO", Rule::Bytes, &[btrfs, (65724, &[0x49, 3, 0, 0, 0, 0, 0, 0])]),
        ("Btrfs with zstd", Rule::Bytes, &[btrfs, (65724, &[0x51, 3, 0, 0, 0, 0, 0, 0])]),
        ("F2FS", Rule::PAGES, &[(1024, &[0x10, 0x20, 0xf5, 0xf2])]),
        ("NILFS2", Rule::PAGES, &[(1024, &[2, 0, 0, 0, 0, 0, 0x34, 0x34]), (1044, &[2, 0, 0, 0])]),
        ("EROFS", Rule::Bytes, &[(1024, &[0xe2, 0xe1, 0xf5, 0xe0]), (1036, &[12]), (1104, &[4, 0, 0, 0])]),
        ("JFS", Rule::PAGES, &[(32768, b"JFS1")]),
        ("ReiserFS", Rule::PAGES, &[(65588, b"ReIsEr")]),
        ("LUKS", Rule::PAGES, &[(0, b"LUKS\xba\xbe\0\x02")]),
        ("LVM", Rule::PAGES, &[(512, b"LABELONE")]),
        ("squashfs", Rule::Bytes, &[(0, b"hsqs")]),
        ("cpio", Rule::Bytes, &[(0, b"070701")]),
        ("nothing known", Rule::Bytes, &[]),
    ];
    for (what, rule, parts) in kinds {
        check(&image(parts), &[(0, rule)], what);
    }
    let small = image(&[EXT4, EXT4_4K]);
    for bytes in [1, 4095, 4096, 5000, 69_631, 69_632, 69_633] {
        let rule = if bytes < 4096 { Rule::Bytes } else { Rule::PAGES };
        check(&small[..bytes], &[(0, rule)], "the start of an ext4");
    }
}

#[test]
fn each_partition_by_its_own_rule() {
    let (efi, linux, data) = (mbr_entry(0xef, 64, 128), mbr_entry(0x83, 2048, 4096), mbr_entry(0x83, 6144, 1 << 20));
    let table = mbr(&[&efi, &linux, &data]);
    let ext4 = [(MIB + EXT4.0, EXT4.1), (MIB + EXT4_4K.0, EXT4_4K.1)];
    let parts = [(0, &table[..]), ext4[0], ext4[1], (3 * MIB, b"hsqs")];
    let disk = image(&parts);
    let stretches = [
        (0, Rule::Bytes),
        (64 * 512, Rule::Bytes),
        (192 * 512, Rule::Bytes),
        (MIB, Rule::PAGES),
        (3 * MIB, Rule::Bytes),
    ];
    check(&disk, &stretches, "an ESP, ext4, and a squashfs that is cut off");
    let alone = cuts(Rule::Content, &disk[MIB..3 * MIB]);
    let blocks: Vec<&Vec<u8>> = alone.iter().map(|cut| &cut.bytes).collect();
    let found = cuts(Rule::Content, &disk);
    assert!(
        blocks.iter().all(|bytes| found.iter().any(|cut| cut.bytes == **bytes)),
        "shared with the file system alone"
    );
    check(
        &image(&[parts[0], parts[1], parts[2], (32769, b"CD001")]),
        &[(0, Rule::Pages(PageSize::TwoKib))],
        "a hybrid ISO",
    );
    let table = mbr(&[&mbr_entry(0x83, 63, 4096)]);
    let at = 63 * 512;
    let old = image(&[(0, &table), (at + EXT4.0, EXT4.1), (at + EXT4_4K.0, EXT4_4K.1)]);
    let stretches = [(0, Rule::Bytes), (at, Rule::PAGES), (at + 2 * MIB, Rule::Bytes)];
    check(&old, &stretches, "a partition in the middle of a page");
}

#[test]
fn tables_that_lie() {
    let ext4 = [(MIB + EXT4.0, EXT4.1), (MIB + EXT4_4K.0, EXT4_4K.1)];
    let whole = [(0, Rule::Bytes), (MIB, Rule::PAGES)];
    for (other, what) in [
        (mbr_entry(0x83, 2048, 9), "two at one place"),
        (mbr_entry(0x83, 4096, 2048), "one within the other"),
        (mbr_entry(0x0f, 2048, 2048), "an extended one at the same place"),
        (mbr_entry(0x83, 4096, u32::MAX), "overlapping"),
        (mbr_entry(0x83, u32::MAX, u32::MAX), "behind the end"),
        (mbr_entry(0x83, 0, 2048), "one that begins with the table"),
        (mbr_entry(0x83, 4096, 0), "an empty one"),
    ] {
        let table = mbr(&[&mbr_entry(0x83, 2048, 1 << 20), &other]);
        check(&image(&[(0, &table), ext4[0], ext4[1]]), &whole, what);
    }
    let mut flags = mbr(&[&mbr_entry(0x83, 2048, 1 << 20)]);
    flags[446] = 1;
    check(&image(&[(0, &flags), ext4[0], ext4[1]]), &[(0, Rule::Bytes)], "no table: an unknown flag");
}

#[test]
fn logical_partitions() {
    let table = mbr(&[&mbr_entry(0x0f, 2048, 6144)]);
    let first = mbr(&[&mbr_entry(0x83, 63, 1985), &mbr_entry(0x05, 2048, 4096)]);
    let second = mbr(&[&mbr_entry(0x83, 2048, 1024)]);
    let (one, two) = (MIB + 63 * 512, 3 * MIB);
    let parts = [
        (0, &table[..]),
        (MIB, &first),
        (2 * MIB, &second),
        (one + EXT4.0, EXT4.1),
        (one + EXT4_1K.0, EXT4_1K.1),
        (two + EXT4.0, EXT4.1),
        (two + EXT4_4K.0, EXT4_4K.1),
    ];
    let stretches = [
        (0, Rule::Bytes),
        (MIB, Rule::Bytes),
        (one, Rule::Pages(PageSize::OneKib)),
        (2 * MIB, Rule::Bytes),
        (two, Rule::PAGES),
        (two + MIB / 2, Rule::Bytes),
    ];
    check(&image(&parts), &stretches, "two logical partitions");
    let twice = mbr(&[&mbr_entry(0x0f, 2048, 6144), &mbr_entry(0x05, 2048, 6144)]);
    let both = [&[(0, &twice[..])], &parts[1..]].concat();
    check(&image(&both), &stretches, "two extended partitions at one place");
    for (next, what) in [(0, "a circle"), (1 << 30, "a link behind the end")] {
        let link = mbr(&[&mbr_entry(0, 0, 0), &mbr_entry(0x05, next, 1)]);
        check(&image(&[(0, &table), (MIB, &link)]), &[(0, Rule::Bytes), (MIB, Rule::Bytes)], what);
    }
}

/// A protective MBR, a header, and one partition.
fn gpt(sector: usize, kind: u32, first: u64, last: u64, more: &[Part]) -> Vec<u8> {
    let protective = mbr(&[&mbr_entry(0xee, 1, u32::MAX)]);
    let numbers = [&2u64.to_le_bytes()[..], &u32::MAX.to_le_bytes(), &128u32.to_le_bytes()].concat();
    let entry = [&kind.to_le_bytes()[..], &[9; 28], &first.to_le_bytes(), &last.to_le_bytes()].concat();
    let empty = vec![0; 8 * sector];
    let parts = [
        (0, &protective[..]),
        (sector, b"EFI PART"),
        (sector + 72, &numbers),
        (2 * sector, &empty),
        (2 * sector, &entry),
    ];
    image(&[&parts, more].concat())
}

#[test]
fn gpt_partitions() {
    let (data, linux) = (0xebd0_a0a2, 0x0fc6_3daf);
    let ext4 = [(MIB + EXT4.0, EXT4.1), (MIB + EXT4_4K.0, EXT4_4K.1)];
    let stretches = |rule| [(0, Rule::Bytes), (MIB, rule), (3 * MIB, Rule::Bytes)];
    check(&gpt(512, data, 2048, 6143, &ext4), &stretches(Rule::PAGES), "sectors of 512 bytes");
    check(&gpt(4096, data, 256, 767, &ext4), &stretches(Rule::PAGES), "sectors of 4096 bytes");
    check(&gpt(512, linux, 2048, 6143, &[]), &stretches(Rule::Bytes), "a type says nothing");
    for (first, last) in [(u64::MAX, u64::MAX), (0, u64::MAX), (9, 3), (1 << 60, 1 << 61), (99_999, 100_000)] {
        check(&gpt(512, linux, first, last, &[]), &[(0, Rule::Bytes)], &format!("{first} to {last}"));
    }
}

/// A disk with a link of every kind of stretch, each with `contents`.
pub fn disk_of_everything(contents: &[u8]) -> Vec<u8> {
    let size = 8 * MIB;
    let sector = |mib: usize| (mib * MIB / 512) as u32;
    let primary =
        [mbr_entry(0x83, 63, 9000), mbr_entry(0x83, sector(8), sector(8)), mbr_entry(0x0f, sector(16), sector(16))];
    let (first, second) = (mbr_entry(0x83, 63, 9000), mbr_entry(0x83, 2048, sector(6)));
    let next = mbr_entry(0x05, sector(8), sector(8));
    let mut disk = vec![0; 4 * size];
    let mut put = |at: usize, bytes: &[u8]| disk[at..][..bytes.len()].copy_from_slice(bytes);
    for (at, superblock) in
        [(63 * 512, EXT4_1K), (size, EXT4_2K), (2 * size + 63 * 512, EXT4_4K), (3 * size + MIB, (0, &[0][..]))]
    {
        put(at, contents.get(..if at == 63 * 512 { 4_600_000 } else { contents.len() }).unwrap_or(contents));
        put(at + superblock.0, superblock.1);
        put(at + EXT4.0, if superblock.0 == 0 { &[0, 0] } else { EXT4.1 });
    }
    put(0, &mbr(&[&primary[0], &primary[1], &primary[2]]));
    put(2 * size, &mbr(&[&first, &next]));
    put(3 * size, &mbr(&[&second]));
    disk
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn tables_of_anything_lose_nothing(
        numbers in prop::collection::vec((0..6usize, 0..9000u32, 0..9000u32), 12),
        links in prop::collection::vec(0..8000usize, 2),
        lengths in super::lengths(),
    ) {
        let kinds = [0x83, 0x05, 0x0f, 0xee, 0, 7];
        let entries: Vec<_> = numbers.iter().map(|&(kind, first, count)| mbr_entry(kinds[kind], first, count)).collect();
        let tables: Vec<_> = entries.chunks(4).map(|four| mbr(&four.iter().map(Vec::as_slice).collect::<Vec<_>>())).collect();
        let disk = image(&[(0, &tables[0]), (links[0] * 512, &tables[1]), (links[1] * 512, &tables[2]), (512, b"EFI PART")]);
        let found = cuts(Rule::Content, &disk);
        check_cuts(&disk, &found);
        prop_assert!(spans_of(&found) == spans_of(&cuts_in_pieces(Rule::Content, &disk, &lengths, true)));
    }
}
