//! A store wrapper that retries unreachable stores and limits the write rate.
//!
//! Only [`StoreErrorKind::Unreachable`] is retried. A store that never answered gets few attempts: it is probably down,
//! and other mirrors wait. One that has answered before gets about a minute: enough for a restart, an overload or a
//! lost connection.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use async_trait::async_trait;
use bytes::Bytes;

use super::lock::Guarded;
use super::rate_limit::Pace;
use super::{Entry, Exclusive, Fetch, Freshness, Lock, Put, Store, StoreError, StoreErrorKind, Swap, backoff};
use crate::format::layout::RepoPath;
use crate::system::host::{Host, chance};

/// Consecutive failures after which a store that never answered is given up: 0.5 s of waiting.
const FAILURES_UNKNOWN: u32 = 3;
/// Consecutive failures after which one that has answered is given up: about a minute of waiting.
const FAILURES_KNOWN: u32 = 11;

/// Retries calls for which `inner`, a store or a read-only [`Fetch`], was unreachable.
#[derive(Debug)]
pub struct Retry<S: ?Sized> {
    answered: Arc<AtomicBool>,
    pace: Option<Arc<Pace>>,
    host: Arc<dyn Host>,
    inner: Arc<S>,
}

impl<S: Fetch + ?Sized> Retry<S> {
    /// Wraps a store; `host` supplies the random jitter of the waits.
    pub fn new(inner: Arc<S>, host: Arc<dyn Host>) -> Self {
        Self { inner, answered: Arc::default(), pace: None, host }
    }

    /// Limits the write rate.
    pub fn paced(mut self, pace: Option<Pace>) -> Self {
        self.pace = pace.map(Arc::new);
        self
    }

    async fn turn(&self, bytes: &Bytes) {
        if let Some(pace) = &self.pace {
            pace.turn(bytes.len()).await;
        }
    }

    async fn again<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut failures = 0;
        loop {
            let error = match call().await {
                Err(e) if e.kind() == StoreErrorKind::Unreachable => e,
                done => {
                    self.answered.store(true, Relaxed);
                    return done;
                }
            };
            failures += 1;
            let enough = if self.answered.load(Relaxed) { FAILURES_KNOWN } else { FAILURES_UNKNOWN };
            if failures >= enough {
                return Err(error);
            }
            tokio::time::sleep(backoff::wait(failures, chance(&*self.host))).await;
        }
    }
}

impl Retry<dyn Store> {
    /// The same store, with each attempt guarded by `lock`.
    pub fn guarded(&self, lock: Arc<dyn Lock>) -> Self {
        Self {
            answered: Arc::clone(&self.answered),
            pace: self.pace.clone(),
            host: Arc::clone(&self.host),
            inner: Arc::new(Guarded::new(Arc::clone(&self.inner), lock)),
        }
    }
}

#[async_trait]
impl<S: Fetch + ?Sized> Fetch for Retry<S> {
    async fn get_with(&self, path: &RepoPath, max_bytes: u64, freshness: Freshness) -> Result<Bytes, StoreError> {
        self.again(|| self.inner.get_with(path, max_bytes, freshness)).await
    }

    fn location(&self) -> &str {
        self.inner.location()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Retry<dyn Store> {
    /// Returns [`Put::Exists`] where an earlier attempt succeeded and only its answer was lost.
    async fn put_new(&self, path: &RepoPath, bytes: Bytes) -> Result<Put, StoreError> {
        self.turn(&bytes).await;
        self.again(|| self.inner.put_new(path, bytes.clone())).await
    }

    async fn put_replace(&self, path: &RepoPath, bytes: Bytes) -> Result<(), StoreError> {
        self.turn(&bytes).await;
        self.again(|| self.inner.put_replace(path, bytes.clone())).await
    }

    async fn swap(&self, path: &RepoPath, old: Option<&[u8]>, new: Bytes) -> Result<Swap, StoreError> {
        self.turn(&new).await;
        let swapped = self.again(|| self.inner.swap(path, old, new.clone())).await?;
        if swapped == Swap::Done {
            return Ok(Swap::Done);
        }
        // An earlier attempt may have succeeded and only its answer was lost.
        let found = self.get(path, new.len() as u64).await;
        Ok(if found.is_ok_and(|found| found == new) { Swap::Done } else { Swap::Changed })
    }

    async fn size(&self, path: &RepoPath) -> Result<Option<u64>, StoreError> {
        self.again(|| self.inner.size(path)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.again(|| self.inner.list(prefix)).await
    }

    async fn delete(&self, path: &RepoPath) -> Result<(), StoreError> {
        self.again(|| self.inner.delete(path)).await
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        self.again(|| self.inner.barrier()).await
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        self.again(|| self.inner.sweep()).await
    }

    /// Not retried: a store without a native lock returns `None` without a request, which does not prove it reachable.
    async fn native_lock(&self) -> Result<Option<Arc<dyn Lock>>, StoreError> {
        self.inner.native_lock().await
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
