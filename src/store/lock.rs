//! Locking a store against other publishers, and what may only be done while that is certain.

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

/// Locks `store`: with a lock object, and before that with the store's own kind of lock where it has one. The object is seen
/// by those, too, who reach the same place in another way; where it cannot be written, the store's own kind does alone.
///
/// # Errors
/// [`StoreErrorKind::Locked`] where another publisher holds it.
pub async fn lock(store: &Arc<dyn Store>, host: &Arc<dyn Host>) -> Result<Arc<dyn Lock>, StoreError> {
    let Some(own) = store.native_lock().await? else { return lease::take(store, host, None).await };
    let lock = match lease::take(store, host, Some(Arc::clone(&own))).await {
        // Room is made by removing, and who may write nothing changes nothing.
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

/// A store under a lock: nothing is replaced, switched or deleted at a moment at which it is not certain that the lock is
/// held. Where it is not, the lock is confirmed first; a call during which that ends is given up.
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

    /// Does it while the lock is certain, and no step of it afterwards: a machine may have slept in the middle of a call.
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

    /// A lock that is certain until it is told otherwise.
    #[derive(Debug, Default)]
    struct Ending(AtomicBool);

    #[async_trait]
    impl Lock for Ending {
        fn is_certain(&self) -> bool {
            !self.0.load(Relaxed)
        }

        async fn release(&self, _: bool) {}
    }

    /// A share that hangs for a while, and a machine that sleeps meanwhile.
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
        // What runs on the threads of the store runs to its end before this does.
        assert_eq!(store.get(&head, 16).await.unwrap(), "old");
        lock.0.store(false, Relaxed);
        guarded.delete(&head).await.unwrap();
        assert!(!directory.path().join("os.head").exists());
    }

    /// As when a machine sleeps while a request waits for its turn.
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
