//! The superblocks of the ext file systems in an image.

use super::superblock::{EXT_MAGIC, EXT_MAGIC_AT, SUPERBLOCK_AT};
use crate::partitions::{ReadAt, partitions};

/// Size of a superblock in bytes.
pub const EXT_SUPERBLOCK_BYTES: usize = 1024;

/// Where each ext2, ext3 or ext4 begins, at the start of the image or of a partition, with its superblock.
pub fn ext_superblocks(read_at: ReadAt) -> Vec<(u64, [u8; EXT_SUPERBLOCK_BYTES])> {
    let partitions = partitions(read_at);
    let places = std::iter::once(0).chain(partitions.iter().map(|partition| partition.start));
    let superblock = |start: u64| {
        let mut bytes = [0; EXT_SUPERBLOCK_BYTES];
        let is_there = start.checked_add(SUPERBLOCK_AT as u64).is_some_and(|at| read_at(at, &mut bytes));
        (is_there && bytes[EXT_MAGIC_AT..].starts_with(&EXT_MAGIC)).then_some((start, bytes))
    };
    places.filter_map(superblock).collect()
}
