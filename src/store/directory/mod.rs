//! A mirror in a directory on this machine: a web server's document root, a mounted disk, a network share.
//!
//! Objects are written under `.hfl-tmp/` and renamed into place, so a reader or a crash sees a whole object or none.
//! Data reaches the disk at the barrier, by one `syncfs`, not per object. The native lock is `flock` on the base
//! directory, which ends with its holder. On a network file system `flock` may be local to this machine, so there is no
//! native lock.
//!
//! New files and directories are world-readable whatever the umask, because a web server serves them. A replacement
//! keeps the mode of the old file.
//!
//! Every call runs on this store's own small thread pool and has a deadline, even if the disk or file server hangs. A
//! file is reported missing only if that is certain: not if the mirror's file system is not mounted, or a symbolic link
//! is broken.

mod lock;
mod medium;
mod read;
mod write;

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::caller::{self, Caller};
use super::{Entry, Exclusive, Fetch, Freshness, Lock, Put, Store, StoreError, StoreErrorKind, Swap};
use crate::format::layout::RepoPath;
use crate::system::workers::{Overdue, Workers};

use medium::{Medium, MountPoints};

/// Concurrent calls per directory; further ones are queued.
const THREADS: usize = 4;
/// Deadline of a read: a disk needs about 10 s to spin up.
const READ_PATIENCE: Duration = Duration::from_secs(15);
/// Deadline of writing one object. The kernel blocks writers for long while a slow disk has much to write back.
const WRITE_PATIENCE: Duration = Duration::from_secs(120);
/// Deadline of a listing: millions of names, on a network share.
const LIST_PATIENCE: Duration = Duration::from_secs(600);
/// Deadline of the barrier: gigabytes to flush to a slow disk.
const BARRIER_PATIENCE: Duration = Duration::from_secs(1800);

/// A directory as a store.
#[derive(Debug, Clone)]
pub struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base: PathBuf,
    location: String,
    workers: Workers,
    medium: OnceLock<Medium>,
    mount_points: OnceLock<MountPoints>,
    /// Set once an object had to be moved into place by check-then-rename.
    looks: AtomicBool,
    /// Distinguishes this store's temporary files from those of others.
    token: u64,
    temporaries: AtomicU64,
    /// Directories known to exist: blocks arrive in random order, but most directories soon exist.
    made: Mutex<HashSet<PathBuf>>,
}

impl Directory {
    /// A store in the directory `base`, which need not exist before the first write.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        let base = base.into();
        Self(Arc::new(Inner {
            location: base.display().to_string(),
            base,
            workers: Workers::new(THREADS),
            medium: OnceLock::new(),
            mount_points: OnceLock::new(),
            looks: AtomicBool::new(false),
            token: RandomState::new().hash_one(std::process::id()),
            temporaries: AtomicU64::new(0),
            made: Mutex::default(),
        }))
    }

    /// Runs blocking work on this store's threads, with a deadline.
    async fn blocking<T, F>(&self, patience: Duration, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let done = self.0.workers.run(patience, move || work(&inner)).await;
        done.unwrap_or_else(|Overdue| {
            let why = format!("no answer within {} s: the disk or the file server hangs", patience.as_secs());
            Err(StoreError::whole(&self.0.location, StoreErrorKind::Unreachable, why))
        })
    }
}

impl Directory {
    /// [`Directory::blocking`] for irreversible work.
    async fn asking<T, F>(&self, patience: Duration, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Inner, &Caller) -> Result<T, StoreError> + Send + 'static,
    {
        let (caller, answering) = caller::caller();
        answering.during(self.blocking(patience, move |inner| work(inner, &caller))).await
    }
}

#[cfg(test)]
impl Directory {
    /// Blocks all threads until the returned sender is dropped.
    pub async fn hang(&self) -> std::sync::mpsc::Sender<()> {
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let (hang, begun) = (Arc::new(Mutex::new(hang)), Arc::new(tokio::sync::Barrier::new(THREADS + 1)));
        for _ in 0..THREADS {
            let (store, hang, begun) = (self.clone(), Arc::clone(&hang), Arc::clone(&begun));
            let runtime = tokio::runtime::Handle::current();
            let wait = move |_: &Inner| {
                runtime.block_on(begun.wait());
                let _ = hang.lock().map(|hang| hang.recv());
                Ok(())
            };
            tokio::spawn(async move { store.blocking(WRITE_PATIENCE, wait).await });
        }
        begun.wait().await;
        release
    }
}

impl Inner {
    fn path(&self, path: &RepoPath) -> PathBuf {
        self.base.join(path.as_str())
    }

    fn error(&self, path: &Path, error: &io::Error) -> StoreError {
        StoreError::io(path.display().to_string(), error)
    }

    /// The medium of the directory, cached after the first query.
    fn medium(&self) -> Medium {
        *self.medium.get_or_init(|| Medium::of(&self.base))
    }
}

#[async_trait]
impl Fetch for Directory {
    async fn get_with(&self, path: &RepoPath, max_bytes: u64, _: Freshness) -> Result<Bytes, StoreError> {
        let path = path.clone();
        self.blocking(READ_PATIENCE, move |inner| inner.read(&path, max_bytes)).await
    }

    fn location(&self) -> &str {
        &self.0.location
    }
}

#[async_trait]
impl Store for Directory {
    async fn put_new(&self, path: &RepoPath, bytes: Bytes) -> Result<Put, StoreError> {
        let path = path.clone();
        self.blocking(WRITE_PATIENCE, move |inner| inner.put_new(&path, &bytes)).await
    }

    async fn put_replace(&self, path: &RepoPath, bytes: Bytes) -> Result<(), StoreError> {
        let path = path.clone();
        self.asking(WRITE_PATIENCE, move |inner, caller| inner.replace(&path, &bytes, caller)).await
    }

    async fn swap(&self, path: &RepoPath, old: Option<&[u8]>, new: Bytes) -> Result<Swap, StoreError> {
        let (path, old) = (path.clone(), old.map(<[u8]>::to_vec));
        self.asking(WRITE_PATIENCE, move |inner, caller| inner.swap(&path, old.as_deref(), &new, caller)).await
    }

    async fn size(&self, path: &RepoPath) -> Result<Option<u64>, StoreError> {
        let path = path.clone();
        self.blocking(READ_PATIENCE, move |inner| inner.size(&path)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let prefix = prefix.to_owned();
        self.blocking(LIST_PATIENCE, move |inner| inner.list(&prefix)).await
    }

    async fn delete(&self, path: &RepoPath) -> Result<(), StoreError> {
        let path = path.clone();
        self.asking(WRITE_PATIENCE, move |inner, caller| inner.delete(&path, caller)).await
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        self.blocking(BARRIER_PATIENCE, Inner::sync).await
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        self.asking(LIST_PATIENCE, Inner::sweep).await
    }

    async fn native_lock(&self) -> Result<Option<Arc<dyn Lock>>, StoreError> {
        let store = self.clone();
        self.blocking(WRITE_PATIENCE, move |inner| inner.lock(store)).await
    }

    /// On a network file system, other machines may see a new file with a delay.
    fn exclusive(&self) -> Exclusive {
        let looks = self.0.looks.load(Ordering::Relaxed) || self.0.medium.get() == Some(&Medium::Network);
        if looks { Exclusive::CheckThenWrite } else { Exclusive::Always }
    }

    /// More than two would only contend for the directory's lock.
    fn jobs(&self) -> usize {
        2
    }

    fn is_local(&self) -> bool {
        true
    }
}
