//! Blocks at hand that deltas may be based on.

use std::fmt;
use std::sync::Arc;

use crate::client::source::disk_cache::DiskStore;
use crate::format::block::{Block, BlockRow};

/// A place with old blocks.
pub trait BaseBlocks: Send + Sync + fmt::Debug {
    /// Whether the block is probably there. Cheap.
    fn holds(&self, row: &BlockRow) -> bool;

    /// The block, verified, if it is there. Blocks the thread.
    fn load(&self, row: &BlockRow) -> Option<Block>;
}

impl BaseBlocks for DiskStore {
    fn holds(&self, row: &BlockRow) -> bool {
        DiskStore::holds(self, row)
    }

    fn load(&self, row: &BlockRow) -> Option<Block> {
        self.read(row)
    }
}

impl<B: BaseBlocks + ?Sized> BaseBlocks for Arc<B> {
    fn holds(&self, row: &BlockRow) -> bool {
        (**self).holds(row)
    }

    fn load(&self, row: &BlockRow) -> Option<Block> {
        (**self).load(row)
    }
}
