//! A store that is asked again when it could not be reached, and written to no faster than it is said to be.
//!
//! Only [`StoreErrorKind::Unreachable`] is worth another try. A store that never answered gets few of them: it is probably
//! down, and others wait. One that did gets a minute: a restart, a shortage, a lost connection.

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

/// Failures in a row after which a store that never answered is given up: 0.5 s of waiting.
const FAILURES_UNKNOWN: u32 = 3;
/// Failures in a row after which one that did is given up: about a minute of waiting.
const FAILURES_KNOWN: u32 = 11;

/// Tries again what `inner` could not be reached for: a store, or a mere reader.
#[derive(Debug)]
pub struct Retry<S: ?Sized> {
    answered: Arc<AtomicBool>,
    pace: Option<Arc<Pace>>,
    host: Arc<dyn Host>,
    inner: Arc<S>,
}

impl<S: Fetch + ?Sized> Retry<S> {
    /// Wraps a store; the chance of the waits comes from `host`.
    pub fn new(inner: Arc<S>, host: Arc<dyn Host>) -> Self {
        Self { inner, answered: Arc::default(), pace: None, host }
    }

    /// Has what is written wait for its turn.
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
    /// The same store, each of whose tries is guarded by `lock`.
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
    /// Says [`Put::Exists`] where an earlier try had worked after all and only its answer was lost.
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
        // An earlier try may have worked, and only its answer was lost.
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

    /// Asked once: a store that has no lock of its own says so without a request, and that is no sign of life.
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
