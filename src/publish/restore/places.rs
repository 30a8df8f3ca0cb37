//! Where each block lies in an image: the extents of an index, by block and by offset.

use std::ops::Range;
use std::sync::Arc;

use crate::format::index::{ExtentSource, Index};

/// A run of the image that comes from one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Offset in the image, in bytes.
    pub at: u64,
    /// Offset in the block, in bytes.
    pub offset: u32,
    /// Length in bytes.
    pub bytes: u32,
}

impl Run {
    /// The bytes of the block that it holds.
    pub fn of_block(&self) -> Range<usize> {
        self.offset as usize..(self.offset + self.bytes) as usize
    }
}

/// The extents of an index, by block and by offset.
pub struct Places {
    index: Arc<Index>,
    /// Offset of each extent in the image, in bytes.
    starts: Vec<u64>,
    /// Where the extents of each block begin in `by_block`; one more entry for their end.
    first: Vec<u32>,
    /// The extents that are no holes, grouped by block; those of a block in the order of their offsets in it.
    by_block: Vec<u32>,
}

impl Places {
    /// The places of all blocks of an index.
    pub fn of(index: &Arc<Index>) -> Self {
        let (mut at, mut starts, mut by_block) = (0, Vec::new(), Vec::new());
        let mut first = vec![0; index.blocks().len() + 1];
        for (number, extent) in index.extents().iter().enumerate() {
            if let ExtentSource::Block { block, .. } = extent.from {
                by_block.push(number as u32);
                first[block as usize + 1] += 1;
            }
            starts.push(at);
            at += extent.bytes;
        }
        let key = |&number: &u32| match index.extents()[number as usize].from {
            ExtentSource::Block { block, offset } => (block, offset, number),
            ExtentSource::Hole => (u32::MAX, 0, number),
        };
        by_block.sort_unstable_by_key(key);
        for i in 1..first.len() {
            first[i] += first[i - 1];
        }
        Self { index: Arc::clone(index), starts, first, by_block }
    }

    /// The runs of a block, in the order of their offsets in it. Together they cover the block; some may repeat parts.
    pub fn of_block(&self, block: u32) -> impl Iterator<Item = Run> + '_ {
        let numbers = self.first[block as usize]..self.first[block as usize + 1];
        self.by_block[numbers.start as usize..numbers.end as usize].iter().filter_map(|&number| {
            let extent = self.index.extents()[number as usize];
            let ExtentSource::Block { offset, .. } = extent.from else { return None };
            Some(Run { at: self.starts[number as usize], offset, bytes: extent.bytes as u32 })
        })
    }

    /// Parts of these runs that cover the block once, without gaps.
    pub fn cover(&self, block: u32) -> impl Iterator<Item = Run> + '_ {
        let mut covered: u32 = 0;
        self.of_block(block).filter_map(move |run| {
            let end = run.offset + run.bytes;
            let skip = covered.checked_sub(run.offset).filter(|skip| *skip < run.bytes)?;
            covered = end;
            Some(Run { at: run.at + u64::from(skip), offset: run.offset + skip, bytes: run.bytes - skip })
        })
    }

    /// Bytes of the image that come from a block.
    pub fn bytes_of(&self, block: u32) -> u64 {
        self.of_block(block).map(|run| u64::from(run.bytes)).sum()
    }

    /// How many bytes of `range` belong to `block`, if `range` holds the bytes of the block from `offset` on: those that
    /// lie where the image has them.
    pub fn right_bytes(&self, block: u32, offset: u64, range: Range<u64>) -> u64 {
        let first = self.starts.partition_point(|&start| start <= range.start).saturating_sub(1);
        let extents = self.starts[first..].iter().zip(&self.index.extents()[first..]);
        let mut right = 0;
        for (&start, extent) in extents.take_while(|(start, _)| **start < range.end) {
            let ExtentSource::Block { block: its, offset: its_offset } = extent.from else { continue };
            let (from, to) = (range.start.max(start), range.end.min(start + extent.bytes));
            let is_same =
                from < to && its == block && u64::from(its_offset) + (from - start) == offset + (from - range.start);
            right += if is_same { to - from } else { 0 };
        }
        right
    }

    /// The holes of the image.
    pub fn holes(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let extents = self.starts.iter().zip(self.index.extents());
        extents.filter(|(_, extent)| extent.from == ExtentSource::Hole).map(|(&at, extent)| at..at + extent.bytes)
    }
}
