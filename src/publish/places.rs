//! Where each block lies in an image, by block and by offset.

use std::ops::Range;

use crate::format::index::{Extent, ExtentSource};

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

/// The extents of an image, by block and by offset.
#[derive(Debug)]
pub struct Places {
    /// Where each extent begins, and the end of the last one.
    extents: Vec<Begin>,
    /// Where the extents of each block begin in `by_block`; one more entry for their end.
    first: Vec<u32>,
    /// The extents that are no holes, grouped by block; those of a block in the order of their offsets in it.
    by_block: Vec<u32>,
}

/// Where an extent begins in the image and in its block.
#[derive(Debug, Clone, Copy)]
struct Begin {
    at: u64,
    /// [`HOLE`] if it is none of a block.
    block: u32,
    offset: u32,
}

/// In place of a block's number: more than any.
const HOLE: u32 = u32::MAX;

impl Places {
    /// The places of `blocks` blocks in an image with these extents.
    pub fn new(blocks: usize, extents: &[Extent]) -> Self {
        let (mut at, mut begins, mut by_block) = (0, Vec::with_capacity(extents.len() + 1), Vec::new());
        let mut first = vec![0; blocks + 1];
        for (number, extent) in extents.iter().enumerate() {
            let (block, offset) = match extent.from {
                ExtentSource::Block { block, offset } => (block, offset),
                ExtentSource::Hole => (HOLE, 0),
            };
            if block != HOLE {
                by_block.push(number as u32);
                first[block as usize + 1] += 1;
            }
            begins.push(Begin { at, block, offset });
            at += extent.bytes;
        }
        begins.push(Begin { at, block: HOLE, offset: 0 });
        by_block.sort_unstable_by_key(|&number| {
            let Begin { block, offset, .. } = begins[number as usize];
            (block, offset, number)
        });
        for i in 1..first.len() {
            first[i] += first[i - 1];
        }
        Self { extents: begins, first, by_block }
    }

    /// The runs of a block, in the order of their offsets in it. Together they cover the block; some may repeat parts.
    pub fn of_block(&self, block: u32) -> impl Iterator<Item = Run> + '_ {
        let numbers = self.first[block as usize]..self.first[block as usize + 1];
        self.by_block[numbers.start as usize..numbers.end as usize].iter().map(|&number| {
            let Begin { at, offset, .. } = self.extents[number as usize];
            Run { at, offset, bytes: (self.extents[number as usize + 1].at - at) as u32 }
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
        let first = self.extents.partition_point(|extent| extent.at <= range.start).saturating_sub(1);
        let mut right = 0;
        for pair in self.extents[first..].windows(2).take_while(|pair| pair[0].at < range.end) {
            let [its, next] = [pair[0], pair[1]];
            let (from, to) = (range.start.max(its.at), range.end.min(next.at));
            let is_same = from < to
                && its.block == block
                && u64::from(its.offset) + (from - its.at) == offset + (from - range.start);
            right += if is_same { to - from } else { 0 };
        }
        right
    }

    /// The holes of the image.
    pub fn holes(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let holes = self.extents.windows(2).filter(|pair| pair[0].block == HOLE);
        holes.map(|pair| pair[0].at..pair[1].at)
    }
}
