//! The mirrors as a source for demand reads, which are reported to the scheduler.

use std::sync::Arc;

use async_trait::async_trait;

use super::Scheduler;
use crate::format::block::BlockRow;
use crate::repo::{BlockSource, Fetched, ReadError};

/// A source whose fetches hold back prefetch.
#[derive(Debug)]
pub struct DemandSource<S> {
    inner: S,
    scheduler: Arc<Scheduler>,
}

impl<S> DemandSource<S> {
    /// Reports fetches from `inner` to `scheduler`, unless the block is about to be prefetched anyway.
    pub fn new(inner: S, scheduler: Arc<Scheduler>) -> Self {
        Self { inner, scheduler }
    }
}

#[async_trait]
impl<S: BlockSource> BlockSource for DemandSource<S> {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        if self.scheduler.lists(row) {
            return self.inner.fetch(row).await;
        }
        let want = self.scheduler.wanted(row);
        let fetched = self.inner.fetch(row).await?;
        want.came();
        Ok(fetched)
    }
}
