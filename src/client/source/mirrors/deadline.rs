//! A source with a deadline; a panic inside counts as a failure.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::format::block::BlockRow;
use crate::repo::{BlockSource, Fetched, ReadError};
use crate::store::http::SLOWEST_BYTES_PER_S;
use crate::store::{StoreError, StoreErrorKind};

/// A source with a time limit per block.
#[derive(Debug)]
pub struct Deadline<S> {
    inner: Arc<S>,
    name: Arc<str>,
    limit: Duration,
}

impl<S> Deadline<S> {
    /// Limits each fetch from `inner`, called `name`, to `limit` plus the time its file takes on the slowest
    /// connection.
    pub fn new(inner: S, name: Arc<str>, limit: Duration) -> Self {
        Self { inner: Arc::new(inner), name, limit }
    }

    fn error(&self, kind: StoreErrorKind, why: String) -> ReadError {
        StoreError::whole(&self.name, kind, why).into()
    }
}

/// A task that is aborted when its caller is dropped.
struct Attempt(tokio::task::JoinHandle<Result<Fetched, ReadError>>);

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[async_trait]
impl<S: BlockSource + 'static> BlockSource for Deadline<S> {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        let (inner, wanted) = (Arc::clone(&self.inner), *row);
        let mut attempt = Attempt(tokio::spawn(async move { inner.fetch(&wanted).await }));
        let limit = self.limit + Duration::from_secs(u64::from(row.zlib_bytes) / SLOWEST_BYTES_PER_S);
        match tokio::time::timeout(limit, &mut attempt.0).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(e)) => Err(self.error(StoreErrorKind::Other, format!("block {}: {e}", row.id))),
            Err(_) => {
                let why = format!("block {} was not there within {limit:?}", row.id);
                Err(self.error(StoreErrorKind::Unreachable, why))
            }
        }
    }
}
