//! Files that are not the block that their row describes.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use hfl::format::block::BlockRow;
use hfl::format::block::{Block, Codec, Compressor, digests, zlib_max_bytes};
use hfl::format::digest::Sha256;

use crate::format::alloc::peak_bytes;
use crate::support::format_fixtures::{all_as_expected, refusal};

fn content() -> Vec<u8> {
    b"a block that compresses well, ".iter().copied().cycle().take(4096).collect()
}

fn row(bytes: &[u8]) -> BlockRow {
    let (id, sha256) = digests(bytes);
    BlockRow { id, sha256, bytes: bytes.len() as u32, zlib_bytes: 100 }
}

fn zlib(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes.div_ceil(32)).flat_map(|i| Sha256::of(&i.to_le_bytes()).0).take(bytes).collect()
}

#[test]
fn every_damage_has_its_message() {
    let bytes = content();
    let (row, file) = (row(&bytes), zlib(&bytes, 6));
    let other = zlib(&[content(), vec![0]].concat()[1..], 6);
    let with = |tail: &[u8]| [file.as_slice(), tail].concat();
    let flipped = {
        let mut file = file.clone();
        *file.last_mut().expect("bytes") ^= 1;
        file
    };
    let cases: [(&[u8], &str); 12] = [
        (b"", "the file is empty"),
        (b"\x78", "neither a zlib stream nor a zstd frame, or a damaged one"),
        (&bytes, "neither a zlib stream nor a zstd frame, or a damaged one"),
        (b"<html><body>", "not an hfl object (starts with `<html><body>`)"),
        (b"<\x1b[2J\n\xff x", "not an hfl object (starts with `< [2J   x`)"),
        (&file[..file.len() - 1], "expected 4096 bytes decoded, found more, or a damaged end"),
        (&file[..file.len() - 4], "expected 4096 bytes decoded, found more, or a damaged end"),
        (&flipped, "neither a zlib stream nor a zstd frame, or a damaged one"),
        (&with(b"\0"), "1 bytes follow the compressed block"),
        (&with(&file), &format!("{} bytes follow the compressed block", file.len())),
        (&other, "SHA-256 mismatch"),
        (
            &vec![0; zlib_max_bytes(4096) as usize + 1],
            "the file is longer than 4164 bytes, more than this block can need",
        ),
    ];
    let said = |file| refusal(Block::open(&row, file));
    all_as_expected(cases.map(|(file, expected)| (String::from_utf8_lossy(file), said(file), expected.to_owned())));
}

#[test]
fn other_lengths_are_refused() {
    let bytes = content();
    let row = row(&bytes);
    let open = |bytes: &[u8]| refusal(Block::open(&row, &zlib(bytes, 6)));
    assert_eq!(open(&bytes[..4095]), "expected 4096 bytes decoded, found 4095");
    assert_eq!(open(b""), "expected 4096 bytes decoded, found 0");
    assert_eq!(open(&[&bytes[..], b"x"].concat()), "expected 4096 bytes decoded, found more, or a damaged end");
    let (short, long) = (BlockRow { bytes: 4095, ..row }, BlockRow { bytes: 4097, ..row });
    let file = zlib(&bytes, 6);
    assert_eq!(refusal(Block::open(&short, &file)), "expected 4095 bytes decoded, found more, or a damaged end");
    assert_eq!(refusal(Block::open(&long, &file)), "expected 4097 bytes decoded, found 4096");
}

/// Flips every bit of a small file, and truncates it to every length.
#[test]
fn no_single_flipped_bit_gives_other_bytes() {
    let bytes = content();
    let (row, file) = (row(&bytes), zlib(&bytes, 9));
    let mut accepted = 0;
    for bit in 0..8 * file.len() {
        let mut damaged = file.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        if let Ok(block) = Block::open(&row, &damaged) {
            assert_eq!(*block, *bytes);
            accepted += 1;
        }
    }
    println!("{} single flipped bits: {accepted} of them accepted, with the right bytes", 8 * file.len());
    for length in 0..file.len() {
        assert!(Block::open(&row, &file[..length]).is_err(), "the first {length} bytes");
    }
}

#[test]
fn any_valid_encoding_is_accepted() {
    for bytes in [content(), vec![0; 1], vec![0; 4096], noise(5000), noise(70_000)] {
        let row = row(&bytes);
        for level in 0..=9 {
            let file = zlib(&bytes, level);
            // At level 1 zlib-rs makes random data larger than the limit. The format requires such
            // blocks to be stored uncompressed.
            if file.len() as u64 <= zlib_max_bytes(row.bytes) {
                assert_eq!(Block::open(&row, &file).as_deref(), Ok(&*bytes), "level {level}");
            } else {
                println!("level {level} needs {} bytes for {} of noise", file.len(), bytes.len());
                assert!(refusal(Block::open(&row, &file)).starts_with("the file is longer than"));
            }
        }
        for codec in (0..=12).map(Codec::Zlib).chain((1..=22).map(Codec::Zstd)) {
            let sealed = Compressor::new(codec).seal(&bytes, row.id, row.sha256).expect("sealed");
            let file = sealed.into_file();
            assert_eq!(file.starts_with(b"\x28\xb5\x2f\xfd"), matches!(codec, Codec::Zstd(_)));
            assert_eq!(*Block::open(&row, &file).expect("own file"), *bytes, "{codec}");
        }
    }
}

#[test]
fn a_bomb_is_cut_off() {
    let bomb = zlib(&vec![0; 256 << 20], 9);
    let row = BlockRow { bytes: 1 << 20, ..row(&content()) };
    assert!((bomb.len() as u64) < zlib_max_bytes(row.bytes));
    let (result, peak) = peak_bytes(|| refusal(Block::open(&row, &bomb)));
    println!("a bomb of {} bytes that inflates to 256 MiB: {peak} bytes held", bomb.len());
    assert_eq!(result, "expected 1048576 bytes decoded, found more, or a damaged end");
    assert!(peak < (1 << 20) + 4096, "{peak}");
}

/// Damage, truncation and additions to a zstd frame, one at a time.
#[test]
fn a_damaged_zstd_frame_is_refused() {
    let bytes = [noise(500), content()].concat();
    let row = row(&bytes);
    let file = Compressor::new(Codec::Zstd(3)).seal(&bytes, row.id, row.sha256).expect("sealed").into_file();
    for length in 0..file.len() {
        assert!(Block::open(&row, &file[..length]).is_err(), "the first {length} bytes");
    }
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // Some bits mean nothing, such as the size of a window that is larger than needed.
        assert!(
            Block::open(&row, &flipped).is_ok_and(|block| *block == *bytes) || Block::open(&row, &flipped).is_err()
        );
    }
    let said = |file: &[u8]| refusal(Block::open(&row, file));
    assert_eq!(said(&[&file[..], b"x"].concat()), "1 bytes follow the compressed block");
    assert_eq!(said(&[&file[..], &file[..]].concat()), format!("{} bytes follow the compressed block", file.len()));
    let skippable = [b"\x50\x2a\x4d\x18\0\0\0\0", &file[..]].concat();
    assert_eq!(said(&skippable), "neither a zlib stream nor a zstd frame, or a damaged one");
    let (short, long) = (BlockRow { bytes: row.bytes - 1, ..row }, BlockRow { bytes: row.bytes + 1, ..row });
    assert_eq!(refusal(Block::open(&short, &file)), "expected 4595 bytes decoded, found more, or a damaged end");
    assert_eq!(refusal(Block::open(&long, &file)), "expected 4597 bytes decoded, found 4596");
}

#[test]
fn a_zstd_frame_allocates_only_the_block() {
    let bytes = vec![0; 256 << 20];
    let bomb = zstd::bulk::compress(&bytes, 19).expect("a frame");
    drop(bytes);
    let row = BlockRow { bytes: 1 << 20, ..row(&content()) };
    assert!((bomb.len() as u64) < zlib_max_bytes(row.bytes));
    let (result, peak) = peak_bytes(|| refusal(Block::open(&row, &bomb)));
    assert_eq!(result, "expected 1048576 bytes decoded, found more, or a damaged end");
    assert!(peak < (1 << 20) + (1 << 18), "{peak}");
}

#[test]
fn codecs_have_one_spelling() {
    let read = |text: &str| text.parse::<Codec>().ok();
    assert_eq!(read("zlib"), Some(Codec::Zlib(5)));
    assert_eq!(read("zstd:19"), Some(Codec::Zstd(19)));
    for codec in (0..=12).map(Codec::Zlib).chain((1..=22).map(Codec::Zstd)) {
        assert_eq!(read(&codec.to_string()), Some(codec));
    }
    for text in ["", "zstd:", "zstd:0", "zstd:23", "zlib:13", "zlib:-1", "gzip", "zstd:3:4", "ZSTD"] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn a_preset_dictionary_is_refused() {
    let bytes = content();
    let mut file = zlib(&bytes, 6);
    file[1] |= 0x20;
    file[1] = file[1] / 32 * 32;
    file[1] += (31 - (u16::from(file[0]) * 256 + u16::from(file[1])) % 31) as u8;
    assert_eq!(refusal(Block::open(&row(&bytes), &file)), "neither a zlib stream nor a zstd frame, or a damaged one");
}

#[test]
fn raw_bytes_tell_which_block_they_are() {
    let bytes = content();
    let (sha256, block) = Block::of(bytes.clone());
    assert_eq!((sha256, &*block), (row(&bytes).sha256, &*bytes));
    assert_ne!(Block::of(bytes[1..].to_vec()).0, sha256);
}
