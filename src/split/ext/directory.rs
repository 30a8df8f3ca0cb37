//! Directories.

use super::Ext;
use super::inode::Inode;
use crate::error::Error;
use crate::partitions::number;

/// Largest directory that is read, in bytes.
const DIRECTORY_MAX_BYTES: u64 = 8 << 20;
/// Bytes of an entry before its name.
const HEADER_BYTES: usize = 8;

/// A name in a directory.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    name: Vec<u8>,
    pub(super) inode: u32,
}

impl Entry {
    /// Whether it names another inode.
    fn counts(&self) -> bool {
        self.inode != 0 && self.name != b"." && self.name != b".."
    }

    /// What it counts for, in bytes.
    pub(super) fn bytes(&self) -> usize {
        HEADER_BYTES + self.name.len()
    }
}

impl Ext<'_> {
    /// The names in a directory, sorted, without `.` and `..`; none if together they count for more than `room` bytes.
    pub(super) fn names(&mut self, directory: &Inode, mut room: usize) -> Result<Vec<Entry>, Error> {
        let runs = self.blocks_of(directory)?;
        let blocks: u64 = runs.iter().map(|run| run.end - run.start).sum();
        let mut names = Vec::new();
        if blocks * self.block_bytes > DIRECTORY_MAX_BYTES {
            return Ok(names);
        }
        for block in runs.into_iter().flatten() {
            if !self.look() {
                return Ok(Vec::new());
            }
            let Some(bytes) = self.block(block)? else { continue };
            for entry in entries(&bytes) {
                if !self.look() {
                    return Ok(Vec::new());
                }
                if !entry.counts() {
                    continue;
                }
                let Some(left) = room.checked_sub(entry.bytes()) else { return Ok(Vec::new()) };
                room = left;
                names.push(entry);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// The entries of one block, up to the first that is impossible.
fn entries(block: &[u8]) -> impl Iterator<Item = Entry> {
    let mut rest = block;
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<HEADER_BYTES>()?;
        let (inode, length) = (number(&header[..4]) as u32, number(&header[4..6]) as usize);
        let name = rest.get(HEADER_BYTES..length)?.get(..header[6].into())?.to_vec();
        rest = &rest[length.min(rest.len())..];
        Some(Entry { name, inode })
    })
}
