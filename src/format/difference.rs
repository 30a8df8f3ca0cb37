//! The difference between two versions, and its size.
//!
//! Compares by block name and position, not line by line: a million rows take a moment.

use crate::format::block::BlockRow;
use crate::format::index::by_name::ByName;
use crate::format::index::{ExtentSource, Index};

/// A number of blocks and their total sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Number of blocks.
    pub blocks: u64,
    /// Uncompressed size in bytes.
    pub bytes: u64,
    /// Compressed size in bytes.
    pub zlib_bytes: u64,
}

impl Tally {
    /// Adds one block.
    pub fn add(&mut self, row: &BlockRow) {
        self.blocks += 1;
        self.bytes += u64::from(row.bytes);
        self.zlib_bytes += u64::from(row.zlib_bytes);
    }
}

/// The changes in one cell: one of the equal parts into which the new image is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cell {
    /// Bytes in blocks that the old version does not have.
    pub changed_bytes: u64,
    /// Bytes in blocks that the old version has, at any position.
    pub kept_bytes: u64,
    /// Bytes in holes.
    pub hole_bytes: u64,
}

/// The difference between an old and a new version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Blocks that both versions have.
    pub kept: Tally,
    /// Blocks that only the new version has: to be uploaded, and to be downloaded by a client with the old version.
    pub added: Tally,
    /// Blocks that only the old version has.
    pub removed: Tally,
    is_added: Vec<bool>,
}

impl Difference {
    /// The difference from `old` to `new`.
    pub fn between(old: &Index, new: &Index) -> Self {
        let (mut kept, mut added, mut kept_of_old) = (Tally::default(), Tally::default(), Tally::default());
        let mut is_added = Vec::with_capacity(new.blocks().len());
        let mut finder = Finder { rows: old.blocks(), by_name: ByName::new(old.blocks()), next: 0 };
        for row in new.blocks() {
            match finder.find(row) {
                Some(old_row) => {
                    kept.add(row);
                    kept_of_old.add(old_row);
                    is_added.push(false);
                }
                None => {
                    added.add(row);
                    is_added.push(true);
                }
            }
        }
        let all = tally(old.blocks());
        let removed = Tally {
            blocks: all.blocks - kept_of_old.blocks,
            bytes: all.bytes - kept_of_old.bytes,
            zlib_bytes: all.zlib_bytes - kept_of_old.zlib_bytes,
        };
        Self { kept, added, removed, is_added }
    }

    /// True if no block was added or removed; blocks may still have moved.
    pub fn is_empty(&self) -> bool {
        self.added.blocks == 0 && self.removed.blocks == 0
    }

    /// The changes in each of `cells` equal parts of the new image. `new` is the index this was computed from.
    pub fn map(&self, new: &Index, cells: usize) -> Vec<Cell> {
        let mut map = vec![Cell::default(); cells.max(1)];
        let cell_bytes = new.size().div_ceil(map.len() as u64).max(1);
        let mut at = 0;
        for extent in new.extents() {
            let end = at + extent.bytes;
            while at < end {
                let cell = (at / cell_bytes) as usize;
                let part = end.min((cell as u64 + 1) * cell_bytes) - at;
                match extent.from {
                    ExtentSource::Hole => map[cell].hole_bytes += part,
                    ExtentSource::Block { block, .. } if self.is_added[block as usize] => {
                        map[cell].changed_bytes += part
                    }
                    ExtentSource::Block { .. } => map[cell].kept_bytes += part,
                }
                at += part;
            }
        }
        map
    }
}

fn tally(rows: &[BlockRow]) -> Tally {
    let mut tally = Tally::default();
    rows.iter().for_each(|row| tally.add(row));
    tally
}

/// Finds blocks of the new version in the old one. Most are in the same order in both, so the next old row is tried
/// before the search by name.
struct Finder<'a> {
    rows: &'a [BlockRow],
    by_name: ByName<'a>,
    next: usize,
}

impl<'a> Finder<'a> {
    /// The old row of the same block; its SHA-256 must match too, not only its name.
    fn find(&mut self, row: &BlockRow) -> Option<&'a BlockRow> {
        let follows = self.rows.get(self.next).is_some_and(|old| old.id == row.id);
        let place = if follows { Some(self.next) } else { self.by_name.find(&row.id) };
        // A block missing from the old version often replaces one that is gone, so the old row is skipped.
        self.next = place.unwrap_or(self.next) + 1;
        place.map(|place| &self.rows[place]).filter(|old| old.sha256 == row.sha256)
    }
}
