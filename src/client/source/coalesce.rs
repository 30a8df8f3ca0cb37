//! Coalesces requests: one fetch per block in flight, however many readers want it.
//!
//! The first reader fetches, the others wait for its result, success or error; if it is cancelled, another one takes
//! over. Nothing is cached: once the result is there, the next reader fetches again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::OnceCell;

use crate::format::block::Block;
use crate::format::block::BlockRow;
use crate::format::digest::Sha256;
use crate::repo::{BlockSource, Fetched, ReadError};

type Answer = Arc<OnceCell<Result<Arc<Block>, ReadError>>>;

/// A source that merges concurrent requests for the same block.
#[derive(Debug)]
pub struct Coalesce<S> {
    inner: S,
    flights: Mutex<HashMap<Sha256, Answer>>,
}

impl<S> Coalesce<S> {
    /// Coalesces requests to `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, flights: Mutex::default() }
    }

    fn board(&self, key: Sha256) -> Boarded<'_, S> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = Arc::clone(flights.entry(key).or_default());
        Boarded { coalesce: self, key, answer }
    }
}

/// A reader that waits for a block.
struct Boarded<'a, S> {
    coalesce: &'a Coalesce<S>,
    key: Sha256,
    answer: Answer,
}

impl<S> Drop for Boarded<'_, S> {
    /// Removes the fetch when it has its result, or when the last reader has left.
    fn drop(&mut self) {
        let mut flights = self.coalesce.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = flights.get(&self.key).is_some_and(|a| Arc::ptr_eq(a, &self.answer));
        if mine && (self.answer.initialized() || Arc::strong_count(&self.answer) == 2) {
            flights.remove(&self.key);
        }
    }
}

#[async_trait]
impl<S: BlockSource> BlockSource for Coalesce<S> {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        let boarded = self.board(row.sha256);
        Ok(boarded.answer.get_or_init(|| self.inner.block(row)).await.clone()?.into())
    }
}
