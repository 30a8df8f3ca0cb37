//! The mirrors as those see them who want a block now: what is asked of them is told to the scheduler.

use std::sync::Arc;

use async_trait::async_trait;

use super::Scheduler;
use crate::format::index::BlockRow;
use crate::repo::{BlockSource, Fetched, ReadError};

/// A source whose fetches keep those back that nobody waits for.
#[derive(Debug)]
pub struct DemandSource<S> {
    inner: S,
    scheduler: Arc<Scheduler>,
}

impl<S> DemandSource<S> {
    /// Tells `scheduler` of what is asked of `inner`, unless it is fetched in advance anyway.
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
