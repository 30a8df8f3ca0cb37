//! What differs between two versions, and what the difference costs.
//!
//! Compares by name and position, never line by line: a million rows take a moment.

use crate::format::index::by_name::ByName;
use crate::format::index::{BlockRow, ExtentSource, Index};

/// A number of blocks and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of their zlib files.
    pub zlib_bytes: u64,
}

impl Tally {
    /// Counts one more block.
    pub fn add(&mut self, row: &BlockRow) {
        self.blocks += 1;
        self.bytes += u64::from(row.bytes);
        self.zlib_bytes += u64::from(row.zlib_bytes);
    }
}

/// What became of the bytes in one equal part of the new image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cell {
    /// Bytes of blocks that the old version does not have.
    pub changed_bytes: u64,
    /// Bytes of blocks that it has, wherever they lie there.
    pub kept_bytes: u64,
    /// Bytes in holes.
    pub hole_bytes: u64,
}

/// The difference between an old and a new version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Blocks that both have.
    pub kept: Tally,
    /// Blocks that only the new one has: what must be uploaded, and what a client with the old one must download.
    pub added: Tally,
    /// Blocks that only the old one has.
    pub removed: Tally,
    is_added: Vec<bool>,
}

impl Delta {
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

    /// True where nothing was added or removed; the blocks may still lie elsewhere.
    pub fn is_empty(&self) -> bool {
        self.added.blocks == 0 && self.removed.blocks == 0
    }

    /// The new image in `cells` equal parts, and what changed in each. `new` is the index this was made from.
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

/// Finds blocks of the new version in the old one. Most follow each other there as they do here, so the next one is
/// tried before the names are searched.
struct Finder<'a> {
    rows: &'a [BlockRow],
    by_name: ByName<'a>,
    next: usize,
}

impl<'a> Finder<'a> {
    /// The old row of the same block; not one that only has its name.
    fn find(&mut self, row: &BlockRow) -> Option<&'a BlockRow> {
        let follows = self.rows.get(self.next).is_some_and(|old| old.id == row.id);
        let place = if follows { Some(self.next) } else { self.by_name.find(&row.id) };
        // A block that is not there often stands in the place of one that is gone.
        self.next = place.unwrap_or(self.next) + 1;
        place.map(|place| &self.rows[place]).filter(|old| old.sha256 == row.sha256)
    }
}
