//! Maps ranges of an image to parts of blocks and holes.
//!
//! Pure arithmetic over the index; it reads nothing.

use std::ops::Range;
use std::sync::Arc;

use crate::format::block::BlockRow;
use crate::format::index::{Extent, ExtentSource, Index};

/// A part of the image with a single source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// Zeros.
    Hole {
        /// Size in bytes.
        bytes: usize,
    },
    /// A part of a block.
    Block {
        /// Index of the block in [`Index::blocks`].
        block: u32,
        /// Offset of the part in the decoded block, in bytes.
        start: usize,
        /// Size of the part in bytes.
        bytes: usize,
    },
}

/// An index with lookup by offset.
#[derive(Debug, Clone)]
pub struct ExtentMap {
    index: Arc<Index>,
    /// Offset of each extent in the image, in bytes.
    starts: Arc<[u64]>,
    /// Bytes outside holes.
    data_bytes: u64,
}

impl ExtentMap {
    /// Builds the map of an index.
    pub fn new(index: Arc<Index>) -> Self {
        let mut end = 0;
        let starts = index.extents().iter().map(|e| {
            let start = end;
            end += e.bytes;
            start
        });
        let starts = starts.collect();
        let data_bytes = index.size() - index.hole_bytes();
        Self { index, starts, data_bytes }
    }

    /// Size of the image in bytes.
    pub fn size(&self) -> u64 {
        self.index.size()
    }

    /// Bytes of the image outside holes.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Number of blocks.
    pub fn block_count(&self) -> usize {
        self.index.blocks().len()
    }

    /// The row of a block of a [`Segment`].
    pub fn row(&self, block: u32) -> &BlockRow {
        &self.index.blocks()[block as usize]
    }

    /// The range of `bytes` from `offset` on, cut at the end of the image.
    pub fn clip(&self, offset: u64, bytes: u64) -> Range<u64> {
        let start = offset.min(self.size());
        start..start.saturating_add(bytes).min(self.size())
    }

    /// The segments of `range`, which lies inside the image.
    pub fn segments(&self, range: Range<u64>) -> impl Iterator<Item = Segment> + '_ {
        self.extents_from(range.start).map_while(move |(start, extent)| {
            let from = range.start.max(start);
            let to = range.end.min(start + extent.bytes);
            (from < to).then(|| segment(extent, from - start, to - from))
        })
    }

    /// The blocks that `range` touches, each once, in the order of their first use; at most `most`.
    pub fn blocks(&self, range: Range<u64>, most: usize) -> Vec<u32> {
        let mut blocks = Vec::new();
        for segment in self.segments(range) {
            let Segment::Block { block, .. } = segment else { continue };
            if !blocks.contains(&block) {
                blocks.push(block);
            }
            if blocks.len() == most {
                break;
            }
        }
        blocks
    }

    /// The offset that is `bytes` stored bytes (not holes) after `from`; examines at most `extents_max` extents.
    pub fn advance(&self, from: u64, bytes: u64, extents_max: usize) -> u64 {
        let mut left = bytes;
        let mut at = from.min(self.size());
        for (start, extent) in self.extents_from(at).take(extents_max) {
            let available = start + extent.bytes - at;
            if matches!(extent.from, ExtentSource::Block { .. }) {
                if left <= available {
                    return at + left;
                }
                left -= available;
            }
            at += available;
        }
        at
    }

    /// The first offset from `offset` on in stored bytes (`data`) or else in a hole; every image ends with a
    /// hole.
    pub fn seek(&self, offset: u64, data: bool) -> u64 {
        let wanted = |extent: &Extent| matches!(extent.from, ExtentSource::Block { .. }) == data;
        let found = self.extents_from(offset).find(|(_, extent)| wanted(extent));
        found.map_or(self.size(), |(start, _)| start.max(offset))
    }

    /// The extents from the one that contains `offset` on, each with its start.
    fn extents_from(&self, offset: u64) -> impl Iterator<Item = (u64, &Extent)> {
        let first = self.starts.partition_point(|&start| start <= offset).saturating_sub(1);
        self.starts[first..].iter().copied().zip(&self.index.extents()[first..])
    }
}

fn segment(extent: &Extent, skip: u64, bytes: u64) -> Segment {
    let (skip, bytes) = (skip as usize, bytes as usize);
    match extent.from {
        ExtentSource::Hole => Segment::Hole { bytes },
        ExtentSource::Block { block, offset } => Segment::Block { block, start: offset as usize + skip, bytes },
    }
}
