//! Blocks at hand that deltas may be based on.

use std::fmt;

use crate::format::block::{Block, BlockRow};

/// A place with old blocks: a cache, a seed, the disk that is updated.
pub trait BaseBlocks: Send + Sync + fmt::Debug {
    /// Whether the block is probably there. Cheap.
    fn holds(&self, row: &BlockRow) -> bool;

    /// The block, verified, if it is there. Blocks the thread.
    fn load(&self, row: &BlockRow) -> Option<Block>;
}
