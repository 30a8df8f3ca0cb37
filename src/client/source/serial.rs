//! One block at a time: the baseline for measuring readahead and parallel fetches.

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::format::block::BlockRow;
use crate::repo::{BlockSource, Fetched, ReadError};

/// A source that serves one request at a time.
#[derive(Debug)]
pub struct Serial<S> {
    inner: S,
    turn: Mutex<()>,
}

impl<S> Serial<S> {
    /// Serialises requests to `inner`.
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
