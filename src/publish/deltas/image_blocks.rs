//! Blocks read out of an image, by the extents of an index.

use std::sync::Arc;

use crate::disk::input::Input;
use crate::format::block::BlockRow;
use crate::format::digest::Sha256;
use crate::format::index::{Extent, ExtentSource};

/// Not among the blocks that are read.
const UNWANTED: u32 = u32::MAX;

/// Some blocks of an image, and where their bytes are.
pub struct ImageBlocks {
    image: Arc<Input>,
    rows: Vec<BlockRow>,
    /// For each block the first of its runs, and the number of all runs at the end.
    firsts: Vec<u32>,
    runs: Vec<Run>,
}

/// A run of bytes of a block in the image.
#[derive(Debug, Clone, Copy)]
struct Run {
    block: u32,
    offset: u32,
    bytes: u32,
    at: u64,
}

impl ImageBlocks {
    /// The blocks of `rows`, which `extents` place in `image`, for which `is_wanted` returns true.
    pub fn new(
        image: Arc<Input>,
        rows: &[BlockRow],
        extents: &[Extent],
        is_wanted: impl Fn(&BlockRow) -> bool,
    ) -> Self {
        let mut wanted = Vec::new();
        let mut numbers = vec![UNWANTED; rows.len()];
        for (number, row) in numbers.iter_mut().zip(rows).filter(|(_, row)| is_wanted(row)) {
            *number = wanted.len() as u32;
            wanted.push(*row);
        }
        let (mut at, mut runs) = (0, Vec::new());
        for extent in extents {
            if let ExtentSource::Block { block, offset } = extent.from
                && numbers[block as usize] != UNWANTED
            {
                runs.push(Run { block: numbers[block as usize], offset, bytes: extent.bytes as u32, at });
            }
            at += extent.bytes;
        }
        runs.sort_unstable_by_key(|run| (run.block, run.offset));
        let firsts = (0..=wanted.len() as u32).map(|block| runs.partition_point(|run| run.block < block) as u32);
        Self { image, firsts: firsts.collect(), runs, rows: wanted }
    }

    /// The rows of these blocks, in the order of their numbers here.
    pub fn rows(&self) -> &[BlockRow] {
        &self.rows
    }

    /// The bytes of a block, verified; `None` if the image has other bytes there.
    pub fn read(&self, block: usize) -> Option<Vec<u8>> {
        self.read_unverified(block).filter(|bytes| Sha256::of(bytes) == self.rows[block].sha256)
    }

    /// The bytes that should be those of a block.
    pub fn read_unverified(&self, block: usize) -> Option<Vec<u8>> {
        let row = &self.rows[block];
        let mut bytes = vec![0; row.bytes as usize];
        for run in &self.runs[self.firsts[block] as usize..self.firsts[block + 1] as usize] {
            let out = bytes.get_mut(run.offset as usize..(run.offset + run.bytes) as usize)?;
            self.image.read_exact_at(run.at, out).ok()?;
        }
        Some(bytes)
    }
}
