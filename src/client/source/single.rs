//! One block at a time: what readahead and parallel work are measured against.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::format::block::Block;
use crate::format::index::BlockRow;
use crate::repo::{BlockSource, ReadError};

/// A source that answers one reader after the other.
#[derive(Debug)]
pub struct OneAtATime<S> {
    inner: S,
    turn: Mutex<()>,
}

impl<S> OneAtATime<S> {
    /// Queues whatever is asked of `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, turn: Mutex::new(()) }
    }
}

#[async_trait]
impl<S: BlockSource> BlockSource for OneAtATime<S> {
    async fn block(&self, row: &BlockRow) -> Result<Arc<Block>, ReadError> {
        let _turn = self.turn.lock().await;
        self.inner.block(row).await
    }
}
