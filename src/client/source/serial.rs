//! One block at a time: what readahead and parallel work are measured against.

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::format::index::BlockRow;
use crate::repo::{BlockSource, Fetched, ReadError};

/// A source that answers one reader after the other.
#[derive(Debug)]
pub struct Serial<S> {
    inner: S,
    turn: Mutex<()>,
}

impl<S> Serial<S> {
    /// Queues whatever is asked of `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, turn: Mutex::new(()) }
    }
}

#[async_trait]
impl<S: BlockSource> BlockSource for Serial<S> {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        let _turn = self.turn.lock().await;
        self.inner.fetch(row).await
    }
}
