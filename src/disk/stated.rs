//! The size that an image states in the superblock of its file system, or in its partition table.
//!
//! A shorter image was cut off on its way: a broken download or pipe, a full disk. A longer one is common.

use crate::disk::superblock::{ISO, Superblock, superblock};
use crate::partitions::ReadAt;
use crate::partitions::table_bytes;

/// A stated size and its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stated {
    /// File system name; `None` for the partition table.
    pub file_system: Option<&'static str>,
    /// Minimum size in bytes.
    pub bytes: u64,
}

/// The size that the image states; for a pipe, as far as its start contains it.
///
/// An ISO 9660 volume may have partitions appended, so its partition table counts too. In any other file system that
/// begins at byte 0, an apparent table is a leftover.
pub fn stated(read_at: ReadAt) -> Option<Stated> {
    let volume = superblock(0, read_at);
    let own = volume.and_then(|Superblock { name, bytes, .. }| Some(Stated { file_system: Some(name), bytes: bytes? }));
    let is_iso = volume.is_some_and(|volume| volume.name == ISO);
    let table = if volume.is_none() || is_iso { table_bytes(read_at) } else { None };
    let table = table.map(|bytes| Stated { file_system: None, bytes });
    own.into_iter().chain(table).max_by_key(|stated| stated.bytes)
}
