//! How many bytes an image says to have: by the superblock of its file system, or by its partition table.
//!
//! An image with fewer was cut off on its way: a download or a pipe that broke, a full disk. One with more is common.

use crate::disk::partitions::table_bytes;
use crate::disk::superblock::{ReadAt, Superblock, superblock};

/// What says how long an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stated {
    /// A file system's name, or nothing where the partition table says it.
    pub file_system: Option<&'static str>,
    /// The bytes, at least.
    pub bytes: u64,
}

/// What the image says of its own length; of a pipe, as far as its start tells.
///
/// The table of an ISO 9660 counts besides its volume, because partitions are appended behind that; of any other file
/// system that begins at byte 0 what looks like a table is a leftover.
pub fn stated(read_at: ReadAt) -> Option<Stated> {
    let volume = superblock(0, read_at);
    let own = volume.and_then(|Superblock { name, bytes, .. }| Some(Stated { file_system: Some(name), bytes: bytes? }));
    let is_iso = volume.is_some_and(|volume| volume.name == "ISO 9660");
    let table = if volume.is_none() || is_iso { table_bytes(read_at) } else { None };
    let table = table.map(|bytes| Stated { file_system: None, bytes });
    own.into_iter().chain(table).max_by_key(|stated| stated.bytes)
}
