//! What `--split content` chooses for images: real superblocks, real tables, and tables that lie.

use hfl::split::{Rule, choose};
use proptest::prelude::*;

const EXT4: (usize, &[u8]) = (1080, &[0x53, 0xef]);
const EXT4_4K: (usize, &[u8]) = (1048, &[2]);
const MIB: usize = 1 << 20;

/// 4 MiB of zeros with these bytes at these offsets.
fn image(parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut image = vec![0; 4 * MIB];
    for &(offset, bytes) in parts {
        image[offset..][..bytes.len()].copy_from_slice(bytes);
    }
    image
}

/// The rule for an image of which only the first `readable` bytes can be read.
fn rule_of_start(image: &[u8], readable: usize) -> Rule {
    choose(Some(image.len() as u64), &mut |offset, buffer| {
        let range = usize::try_from(offset).ok().and_then(|start| Some(start..start.checked_add(buffer.len())?));
        let bytes = range.and_then(|range| image[..readable].get(range));
        bytes.map(|bytes| buffer.copy_from_slice(bytes)).is_some()
    })
}

fn rule(parts: &[(usize, &[u8])]) -> Rule {
    rule_of_start(&image(parts), 4 * MIB)
}

fn mbr_entry(kind: u8, first: u32, count: u32) -> Vec<u8> {
    let mut entry = vec![0, 0, 0, 0, kind, 0, 0, 0];
    entry.extend([first.to_le_bytes(), count.to_le_bytes()].concat());
    entry
}

#[test]
fn file_systems_at_the_start() {
    assert_eq!(rule(&[EXT4, EXT4_4K]), Rule::Pages);
    assert_eq!(rule(&[EXT4]), Rule::Bytes, "ext4 with blocks of 1 KiB");
    assert_eq!(rule(&[EXT4, (1048, &[77])]), Rule::Bytes, "two bytes that look like ext4");
    assert_eq!(rule(&[(0, b"XFSB\0\0\x10\0")]), Rule::Pages);
    assert_eq!(rule(&[(0, b"XFSB\0\0\x02\0")]), Rule::Bytes, "XFS with blocks of 512 bytes");
    assert_eq!(rule(&[(65600, b"_BHRfS_M")]), Rule::Pages);
    assert_eq!(rule(&[(1024, &[0x10, 0x20, 0xf5, 0xf2])]), Rule::Pages);
    assert_eq!(rule(&[(1024, &[0xe2, 0xe1, 0xf5, 0xe0]), (1036, &[12])]), Rule::Pages);
    assert_eq!(rule(&[(32768, b"JFS1")]), Rule::Pages);
    assert_eq!(rule(&[(0, b"LUKS\xba\xbe\0\x02")]), Rule::Pages);
    assert_eq!(rule(&[(512, b"LABELONE")]), Rule::Pages);
    assert_eq!(rule(&[(0, b"hsqs")]), Rule::Bytes);
    assert_eq!(rule(&[(0, b"070701")]), Rule::Bytes);
    assert_eq!(rule(&[]), Rule::Bytes);
}

#[test]
fn too_short_for_anything() {
    assert_eq!(choose(Some(1), &mut |_, _| false), Rule::Bytes);
    assert_eq!(choose(None, &mut |_, _| false), Rule::Bytes);
}

#[test]
fn mbr_partitions() {
    let (signature, linux) = ((510, &[0x55, 0xaa][..]), mbr_entry(0x83, 2048, 4096));
    let ext4 = [(MIB + EXT4.0, EXT4.1), (MIB + EXT4_4K.0, EXT4_4K.1)];
    let disk = [signature, (446, &linux), ext4[0], ext4[1]];
    assert_eq!(rule(&disk), Rule::Pages);
    assert_eq!(rule_of_start(&image(&disk), MIB), Rule::Pages, "a pipe: the type alone");
    assert_eq!(rule(&[signature, (446, &linux)]), Rule::Bytes, "readable, and nothing is there");
    let iso = [disk[0], disk[1], disk[2], disk[3], (32769, b"CD001")];
    assert_eq!(rule(&iso), Rule::Bytes, "a hybrid ISO");
    let old = mbr_entry(0x83, 63, 4096);
    let parts = [signature, (446, &old), (63 * 512 + EXT4.0, EXT4.1), (63 * 512 + EXT4_4K.0, EXT4_4K.1)];
    assert_eq!(rule(&parts), Rule::Bytes, "begins in the middle of a page");
    let squashfs = mbr_entry(0x83, 6144, 1 << 20);
    let parts = [disk[0], disk[1], disk[2], disk[3], (462, &squashfs), (3 * MIB, b"hsqs")];
    assert_eq!(rule(&parts), Rule::Bytes, "the larger partition decides");
}

#[test]
fn logical_partitions() {
    let (extended, inner) = (mbr_entry(0x0f, 2048, 6144), mbr_entry(0x83, 2048, 2048));
    let ext4 = [(2 * MIB + EXT4.0, EXT4.1), (2 * MIB + EXT4_4K.0, EXT4_4K.1)];
    let signatures = [(510, &[0x55, 0xaa][..]), (MIB + 510, &[0x55, 0xaa])];
    let parts = [signatures[0], signatures[1], (446, &extended), (MIB + 446, &inner), ext4[0], ext4[1]];
    assert_eq!(rule(&parts), Rule::Pages);
    let itself = mbr_entry(0x05, 0, 1);
    assert_eq!(rule(&[signatures[0], signatures[1], (446, &extended), (MIB + 462, &itself)]), Rule::Bytes, "a circle");
}

/// A protective MBR, a header and one entry of a type.
fn gpt(sector: usize, kind: u32, first: u64, last: u64, ext4: bool) -> Vec<u8> {
    let protective = mbr_entry(0xee, 1, u32::MAX);
    let numbers = [&2u64.to_le_bytes()[..], &u32::MAX.to_le_bytes(), &128u32.to_le_bytes()].concat();
    let entry = [&kind.to_le_bytes()[..], &[9; 28], &first.to_le_bytes(), &last.to_le_bytes()].concat();
    let mut parts = vec![(446, &protective[..]), (510, &[0x55, 0xaa]), (sector, b"EFI PART")];
    parts.extend([(sector + 72, &numbers[..]), (2 * sector, &entry)]);
    if ext4 {
        parts.extend([(MIB + EXT4.0, EXT4.1), (MIB + EXT4_4K.0, EXT4_4K.1)]);
    }
    image(&parts)
}

#[test]
fn gpt_partitions() {
    let (data, linux) = (0xebd0_a0a2, 0x0fc6_3daf);
    assert_eq!(rule_of_start(&gpt(512, data, 2048, 8191, true), 4 * MIB), Rule::Pages);
    assert_eq!(rule_of_start(&gpt(4096, data, 256, 1023, true), 4 * MIB), Rule::Pages);
    assert_eq!(rule_of_start(&gpt(512, data, 2048, 8191, true), MIB), Rule::Bytes);
    assert_eq!(rule_of_start(&gpt(512, linux, 2048, 8191, false), MIB), Rule::Pages);
    assert_eq!(rule_of_start(&gpt(512, linux, 2048, 8191, false), 4 * MIB), Rule::Bytes);
    for (first, last) in [(u64::MAX, u64::MAX), (0, u64::MAX), (9, 3), (1 << 60, 1 << 61), (99_999, 100_000)] {
        assert_eq!(rule_of_start(&gpt(512, linux, first, last, false), MIB), Rule::Bytes, "{first} {last}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tables_of_anything_end(
        start in prop::collection::vec(any::<u8>(), 1100),
        kinds in prop::array::uniform4(0..6usize),
        size: bool,
    ) {
        let mut image = vec![0; 8192];
        image[..1100].copy_from_slice(&start);
        image[510..514].copy_from_slice(&[0x55, 0xaa, b'E', b'F']);
        image[512..520].copy_from_slice(b"EFI PART");
        for (index, kind) in kinds.into_iter().enumerate() {
            image[446 + 16 * index] &= 0x80;
            image[446 + 16 * index + 4] = [0x83, 0x05, 0x0f, 0xee, 0, 7][kind];
        }
        let mut reads = 0;
        // Every offset reads like the start, so that chains of tables never end by themselves.
        choose(size.then_some(1 << 40), &mut |offset, buffer| {
            reads += 1;
            let from = offset as usize % 512;
            buffer.copy_from_slice(&image[from..][..buffer.len()]);
            true
        });
        prop_assert!(reads < 2000, "{} reads", reads);
    }
}
