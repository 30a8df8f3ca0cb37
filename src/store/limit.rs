//! A store that is sent no more than so many bytes in a second.
//!
//! Objects are small, so each goes out at full speed when its turn has come; what counts is the mean.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{Entry, Exclusive, Fetch, Lock, Put, Store, StoreError, Swap};
use crate::layout::RepoPath;

/// Holds back what is written to `inner`.
#[derive(Debug)]
pub struct Limited {
    inner: Arc<dyn Store>,
    bytes_per_second: u64,
    /// When the next object may go.
    next: Mutex<Instant>,
}

impl Limited {
    /// Sends at most `bytes_per_second` (at least 1) to `inner`.
    pub fn new(inner: Arc<dyn Store>, bytes_per_second: u64) -> Self {
        Self { inner, bytes_per_second: bytes_per_second.max(1), next: Mutex::new(Instant::now()) }
    }

    async fn turn(&self, bytes: &Bytes) {
        let takes = Duration::from_secs_f64(bytes.len() as f64 / self.bytes_per_second as f64);
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + takes;
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

#[async_trait]
impl Fetch for Limited {
    async fn get(&self, path: &RepoPath, max_bytes: u64) -> Result<Bytes, StoreError> {
        self.inner.get(path, max_bytes).await
    }

    fn location(&self) -> &str {
        self.inner.location()
    }
}

#[async_trait]
impl Store for Limited {
    async fn put_new(&self, path: &RepoPath, bytes: Bytes) -> Result<Put, StoreError> {
        self.turn(&bytes).await;
        self.inner.put_new(path, bytes).await
    }

    async fn put_replace(&self, path: &RepoPath, bytes: Bytes) -> Result<(), StoreError> {
        self.turn(&bytes).await;
        self.inner.put_replace(path, bytes).await
    }

    async fn swap(&self, path: &RepoPath, old: Option<&[u8]>, new: Bytes) -> Result<Swap, StoreError> {
        self.turn(&new).await;
        self.inner.swap(path, old, new).await
    }

    async fn size(&self, path: &RepoPath) -> Result<Option<u64>, StoreError> {
        self.inner.size(path).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.inner.list(prefix).await
    }

    async fn delete(&self, path: &RepoPath) -> Result<(), StoreError> {
        self.inner.delete(path).await
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        self.inner.barrier().await
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        self.inner.sweep().await
    }

    async fn own_lock(&self) -> Result<Option<Box<dyn Lock>>, StoreError> {
        self.inner.own_lock().await
    }

    fn exclusive(&self) -> Exclusive {
        self.inner.exclusive()
    }

    fn jobs(&self) -> usize {
        self.inner.jobs()
    }

    fn is_local(&self) -> bool {
        self.inner.is_local()
    }
}
