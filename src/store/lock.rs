//! Locking a store against other publishers, and what may only be done while that is certain.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::host::Host;
use super::{Entry, Exclusive, Fetch, Freshness, Lock, Put, Store, StoreError, Swap, lease};
use crate::layout::RepoPath;
use crate::weaken::{self, Weakness};

/// Locks `store`: with the store's own kind of lock where it has one, else with a lock object.
///
/// # Errors
/// [`StoreErrorKind::Locked`](super::StoreErrorKind::Locked) where another publisher holds it.
pub async fn lock(store: &Arc<dyn Store>, host: &Arc<dyn Host>) -> Result<Arc<dyn Lock>, StoreError> {
    match store.own_lock().await? {
        Some(lock) => Ok(lock),
        None => lease::take(store, host).await,
    }
}

/// A store under a lock: nothing is replaced, switched or deleted at a moment at which it is not certain that the lock is
/// held. Where it is not, the lock is confirmed first.
#[derive(Debug)]
pub struct Guarded {
    inner: Arc<dyn Store>,
    lock: Arc<dyn Lock>,
}

impl Guarded {
    /// The same store, guarded by `lock`.
    pub fn new(inner: Arc<dyn Store>, lock: Arc<dyn Lock>) -> Self {
        Self { inner, lock }
    }

    async fn certain(&self) -> Result<(), StoreError> {
        let is_certain = self.lock.is_certain() || weaken::is(Weakness::Certainty);
        if is_certain { Ok(()) } else { self.lock.confirm().await }
    }
}

#[async_trait]
impl Fetch for Guarded {
    async fn get_with(&self, path: &RepoPath, max_bytes: u64, freshness: Freshness) -> Result<Bytes, StoreError> {
        self.inner.get_with(path, max_bytes, freshness).await
    }

    fn location(&self) -> &str {
        self.inner.location()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Guarded {
    async fn put_new(&self, path: &RepoPath, bytes: Bytes) -> Result<Put, StoreError> {
        self.inner.put_new(path, bytes).await
    }

    async fn put_replace(&self, path: &RepoPath, bytes: Bytes) -> Result<(), StoreError> {
        self.certain().await?;
        self.inner.put_replace(path, bytes).await
    }

    async fn swap(&self, path: &RepoPath, old: Option<&[u8]>, new: Bytes) -> Result<Swap, StoreError> {
        self.certain().await?;
        self.inner.swap(path, old, new).await
    }

    async fn size(&self, path: &RepoPath) -> Result<Option<u64>, StoreError> {
        self.inner.size(path).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.inner.list(prefix).await
    }

    async fn delete(&self, path: &RepoPath) -> Result<(), StoreError> {
        self.certain().await?;
        self.inner.delete(path).await
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        self.inner.barrier().await
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        self.certain().await?;
        self.inner.sweep().await
    }

    async fn own_lock(&self) -> Result<Option<Arc<dyn Lock>>, StoreError> {
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
