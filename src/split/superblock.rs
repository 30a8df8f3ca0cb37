//! What begins at some place of an image, told from the magic numbers of file systems.
//!
//! Not a list of file systems: it only tells those that keep their data at multiples of 4096 bytes from those that do
//! not. Sources: the on-disk structures in the Linux kernel, and the LVM2 and LUKS header formats.

use super::rule::Rule;

/// Reads bytes at an offset of the image; says whether it could.
pub type ReadAt<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> bool;

/// What `--split content` makes of a place in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Something this rule suits.
    Suits(Rule),
    /// Nothing known.
    Nothing,
    /// The place cannot be read here.
    Unreadable,
}

/// Bytes from the start that hold most superblocks.
const HEAD: usize = 4096;
/// Where ext, F2FS, EROFS and NILFS2 have theirs.
const SUPERBLOCK: usize = 1024;

/// What begins at `start`, in bytes.
pub(super) fn look(start: u64, read_at: ReadAt) -> Found {
    let mut head = [0; HEAD];
    if !read_at(start, &mut head) {
        return Found::Unreadable;
    }
    if let Some(bytes_per_unit) = unit_of(&head).or_else(|| far_unit(start, read_at)) {
        let aligned = start.is_multiple_of(4096) && bytes_per_unit.is_multiple_of(4096);
        return Found::Suits(if aligned { Rule::Pages } else { Rule::Bytes });
    }
    if head.starts_with(b"hsqs") || has(start, 32769, b"CD001", read_at) {
        return Found::Suits(Rule::Bytes);
    }
    Found::Nothing
}

/// In what units of bytes the file system or the container that begins with `head` places data.
fn unit_of(head: &[u8; HEAD]) -> Option<u64> {
    let superblock = &head[SUPERBLOCK..];
    if superblock[56..58] == [0x53, 0xef] {
        return shifted(1024, number(&superblock[24..28])); // ext2, ext3, ext4
    }
    if head.starts_with(b"XFSB") {
        return Some(u64::from(u32::from_be_bytes([head[4], head[5], head[6], head[7]])));
    }
    if superblock.starts_with(&0xe0f5_e1e2_u32.to_le_bytes()) {
        return shifted(1, superblock[12].into()); // EROFS, whose compressed clusters are whole blocks too
    }
    if superblock[..8] == [2, 0, 0, 0, 0, 0, 0x34, 0x34] {
        return shifted(1024, number(&superblock[24..28])); // NILFS2
    }
    // F2FS has no smaller blocks than pages. LVM places volumes, and LUKS sectors, at multiples of at least 4096 bytes.
    let f2fs = superblock.starts_with(&0xf2f5_2010_u32.to_le_bytes());
    let lvm = (0..4).any(|sector| head[sector * 512..].starts_with(b"LABELONE"));
    (f2fs || lvm || head.starts_with(b"LUKS\xba\xbe")).then_some(4096)
}

/// The same for those whose superblock lies further back: Btrfs, ReiserFS and JFS.
fn far_unit(start: u64, read_at: ReadAt) -> Option<u64> {
    let far = has(start, 65600, b"_BHRfS_M", read_at)
        || has(start, 65588, b"ReIsEr", read_at)
        || has(start, 32768, b"JFS1", read_at);
    far.then_some(4096)
}

fn has(start: u64, offset: u64, magic: &[u8], read_at: ReadAt) -> bool {
    let mut bytes = [0; 8];
    let bytes = &mut bytes[..magic.len()];
    start.checked_add(offset).is_some_and(|at| read_at(at, bytes)) && bytes == magic
}

/// A little-endian number of at most 8 bytes.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// `unit` shifted as a superblock says; none has units of more than 64 KiB, so what says so is not one.
fn shifted(unit: u64, by: u64) -> Option<u64> {
    (by <= 16).then(|| unit << by).filter(|&bytes| bytes <= 65536)
}
