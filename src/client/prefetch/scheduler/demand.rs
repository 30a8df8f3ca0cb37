//! The mirrors as those see them who want a block now: what is asked of them is told to the gate.

use std::sync::Arc;

use async_trait::async_trait;

use super::Gate;
use crate::format::index::BlockRow;
use crate::repo::{BlockSource, Fetched, ReadError};

/// A source whose fetches keep those back that nobody waits for.
#[derive(Debug)]
pub struct Wanted<S> {
    inner: S,
    gate: Arc<Gate>,
}

impl<S> Wanted<S> {
    /// Tells `gate` of what is asked of `inner`, unless it is fetched in advance anyway.
    pub fn new(inner: S, gate: Arc<Gate>) -> Self {
        Self { inner, gate }
    }
}

#[async_trait]
impl<S: BlockSource> BlockSource for Wanted<S> {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        if self.gate.lists(row) {
            return self.inner.fetch(row).await;
        }
        let want = self.gate.wanted(row);
        let fetched = self.inner.fetch(row).await?;
        want.came();
        Ok(fetched)
    }
}
