//! Positions of an index's blocks in the image, by offset and by block.

use std::ops::Range;

use crate::format::digest::BlockId;
use crate::format::index::by_name::ByName;
use crate::format::index::{Extent, ExtentSource, Index};

/// An index with look-up of positions by block, and of blocks by position.
pub(super) struct Places<'a> {
    index: &'a Index,
    by_name: ByName<'a>,
    /// Start of each extent in the image.
    starts: Vec<u64>,
    /// Offset in the image of the first use of each block.
    firsts: Vec<u64>,
}

impl<'a> Places<'a> {
    pub fn new(index: &'a Index) -> Self {
        let mut starts = Vec::with_capacity(index.extents().len());
        let mut firsts = Vec::with_capacity(index.blocks().len());
        let mut at = 0;
        for extent in index.extents() {
            starts.push(at);
            // Blocks are in the order of their first use.
            if matches!(extent.from, ExtentSource::Block { block, .. } if block as usize == firsts.len()) {
                firsts.push(at);
            }
            at += extent.bytes;
        }
        Self { index, by_name: ByName::new(index.blocks()), starts, firsts }
    }

    /// The position in the index of the block with this name.
    pub fn find(&self, id: &BlockId) -> Option<u32> {
        self.by_name.find(id).map(|place| place as u32)
    }

    /// The name of a block.
    pub fn id(&self, block: u32) -> BlockId {
        self.index.blocks()[block as usize].id
    }

    /// The extents from the one that contains `offset` on, each with its start; none if the image ends before.
    fn extents_from(&self, offset: u64) -> impl Iterator<Item = (u64, &Extent)> {
        let first = match offset < self.index.size() {
            true => self.starts.partition_point(|&start| start <= offset).saturating_sub(1),
            false => self.starts.len(),
        };
        self.starts[first..].iter().copied().zip(&self.index.extents()[first..])
    }

    /// The range of the extent at `offset`; `None` unless it comes from `block`.
    pub fn piece(&self, offset: u64, block: u32) -> Option<Range<u64>> {
        let (start, extent) = self.extents_from(offset).next()?;
        matches!(extent.from, ExtentSource::Block { block: b, .. } if b == block).then(|| start..start + extent.bytes)
    }

    /// The position of `block`: `offset` if it is there, else its first use.
    pub fn place_of(&self, block: u32, offset: u64) -> u64 {
        if self.piece(offset, block).is_some() { offset } else { self.firsts[block as usize] }
    }

    /// The blocks in `range`, each with its first offset there.
    pub fn blocks_in(&self, range: Range<u64>) -> impl Iterator<Item = (u32, u64)> {
        let within = self.extents_from(range.start).take_while(move |(start, _)| *start < range.end);
        within.filter_map(move |(start, extent)| match extent.from {
            ExtentSource::Block { block, .. } => Some((block, start.max(range.start))),
            ExtentSource::Hole => None,
        })
    }
}
