//! Locking a store against other publishers, and operations that require a certain lock.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Entry, Exclusive, Fetch, Freshness, Lock, Put, Store, StoreError, StoreErrorKind, Swap, lease};
use crate::format::layout::RepoPath;
use crate::system::host::Host;
use crate::weaken::{self, Weakness};

/// Locks `store`: with its native lock where it has one, then with a lock object. The object is also seen by publishers
/// that reach the same place by another protocol. Where it cannot be written, the native lock alone is used.
///
/// # Errors
/// [`StoreErrorKind::Locked`] where another publisher holds it.
pub async fn lock(store: &Arc<dyn Store>, host: &Arc<dyn Host>) -> Result<Arc<dyn Lock>, StoreError> {
    let own = match store.native_lock().await {
        Err(e) if e.kind() == StoreErrorKind::Locked => return Err(lease::held_by(&**store).await.unwrap_or(e)),
        own => own?,
    };
    let Some(own) = own else { return lease::take(store, host, None).await };
    let lock = match lease::take(store, host, Some(Arc::clone(&own))).await {
        // A full store needs gc, which needs the lock; without write permission nothing can change.
        Err(e) if matches!(e.kind(), StoreErrorKind::Full | StoreErrorKind::Denied) => own,
        Err(e) => {
            own.release(true).await;
            return Err(e);
        }
        Ok(lock) => lock,
    };
    match store.sweep().await {
        Err(e) if e.kind() != StoreErrorKind::Denied => {
            lock.release(false).await;
            Err(e)
        }
        _ => Ok(lock),
    }
}

/// A store under a lock: nothing is replaced, swapped or deleted unless the lock is certain at that moment. Where it is
/// not, the lock is confirmed first. A call during which certainty ends is aborted.
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

    fn is_certain(&self) -> bool {
        self.lock.is_certain() || weaken::is(Weakness::Certainty)
    }

    /// Polls `call` only while the lock is certain: the machine may have been suspended in the middle of it.
    async fn while_certain<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        if !self.is_certain() {
            self.lock.confirm().await?;
        }
        let mut call = pin!(call);
        poll_fn(|context| match self.is_certain() {
            true => call.as_mut().poll(context),
            false => {
                let why = "its lock may have been lost meanwhile";
                Poll::Ready(Err(StoreError::whole(self.location(), StoreErrorKind::Unreachable, why)))
            }
        })
        .await
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
        self.while_certain(self.inner.put_replace(path, bytes)).await
    }

    async fn swap(&self, path: &RepoPath, old: Option<&[u8]>, new: Bytes) -> Result<Swap, StoreError> {
        self.while_certain(self.inner.swap(path, old, new)).await
    }

    async fn size(&self, path: &RepoPath) -> Result<Option<u64>, StoreError> {
        self.inner.size(path).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.inner.list(prefix).await
    }

    async fn delete(&self, path: &RepoPath) -> Result<(), StoreError> {
        self.while_certain(self.inner.delete(path)).await
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        self.inner.barrier().await
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        self.while_certain(self.inner.sweep()).await
    }

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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;
    use crate::store::directory::Directory;

    /// A lock that is certain until the flag is set.
    #[derive(Debug, Default)]
    struct Ending(AtomicBool);

    #[async_trait]
    impl Lock for Ending {
        fn is_certain(&self) -> bool {
            !self.0.load(Relaxed)
        }

        async fn release(&self, _: bool) {}
    }

    /// A share hangs for a while, and the lock ends meanwhile, as after a suspend.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_waits_for_a_thread_is_not_done_when_the_lock_ends_meanwhile() {
        let (directory, lock) = (tempfile::tempdir().unwrap(), Arc::new(Ending::default()));
        std::fs::write(directory.path().join("os.head"), "old").unwrap();
        let store = Arc::new(Directory::new(directory.path()));
        let guarded = Guarded::new(Arc::clone(&store) as Arc<dyn Store>, Arc::clone(&lock) as Arc<dyn Lock>);
        let head: RepoPath = "os.head".parse().unwrap();
        let release = store.hang().await;
        let calls = futures_util::future::join3(
            guarded.delete(&head),
            guarded.put_replace(&head, Bytes::from_static(b"new")),
            guarded.swap(&head, Some(b"old"), Bytes::from_static(b"new")),
        );
        let ending = async {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            lock.0.store(true, Relaxed);
            drop(release);
        };
        let ((deleted, replaced, swapped), ()) = futures_util::future::join(calls, ending).await;
        assert!(deleted.is_err() && replaced.is_err() && swapped.is_err(), "{deleted:?} {replaced:?} {swapped:?}");
        // The store's threads finish earlier jobs before this one.
        assert_eq!(store.get(&head, 16).await.unwrap(), "old");
        lock.0.store(false, Relaxed);
        guarded.delete(&head).await.unwrap();
        assert!(!directory.path().join("os.head").exists());
    }

    /// As when the machine is suspended while a request is queued.
    #[tokio::test]
    async fn no_call_goes_on_when_the_lock_is_no_longer_certain() {
        let (directory, lock) = (tempfile::tempdir().unwrap(), Arc::new(Ending::default()));
        let store = Arc::new(Directory::new(directory.path()));
        let guarded = Guarded::new(store, Arc::clone(&lock) as Arc<dyn Lock>);
        let (began, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        let call = async {
            began.store(true, Relaxed);
            lock.0.store(true, Relaxed);
            tokio::task::yield_now().await;
            ended.store(true, Relaxed);
            Ok(())
        };
        let error = guarded.while_certain(call).await.unwrap_err();
        assert_eq!(
            error.kind(),
            StoreErrorKind::Unreachable,
            "so that it is tried again, with a lock that is confirmed"
        );
        assert!(began.load(Relaxed) && !ended.load(Relaxed));
    }
}
