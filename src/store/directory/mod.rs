//! A mirror in a directory of this machine: a web server's document root, a mounted disk, a share.
//!
//! Objects are written under `.hfl-tmp/` and moved into place, so a reader or a crash sees all of an object or nothing.
//! The data reaches the disk at the barrier, by one `syncfs`, not object by object. The lock is `flock` on the base
//! directory itself, which ends with its holder. On a network file system, where `flock` may hold on this machine alone, there
//! is no such lock.
//!
//! Files and directories that are made are readable for everyone, whatever the umask is: a web server serves them. What
//! replaces a file takes over its mode.
//!
//! Every call runs on a few threads of this store's own and ends after a limited time, also where the disk or the file server
//! hangs. That a file is missing is said only where it is certain: not where the file system of the mirror is not mounted, or
//! a symbolic link leads nowhere.

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

/// Where objects are written before they are moved into place.
const TEMPORARY: &str = ".hfl-tmp";
/// Calls that one directory has under way at once; the others wait for their turn.
const THREADS: usize = 4;
/// How long a read may take: a disk that has to start turning needs about 10 s.
const READ_PATIENCE: Duration = Duration::from_secs(15);
/// How long writing one object may take. The kernel holds writers up for long where a slow disk has much to write.
const WRITE_PATIENCE: Duration = Duration::from_secs(120);
/// How long a listing may take: millions of names, on a share.
const LIST_PATIENCE: Duration = Duration::from_secs(600);
/// How long it may take until all that was written is on the disk: gigabytes, on a slow one.
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
    /// Set once a new object could only be moved into place after a look whether the place is free.
    looks: AtomicBool,
    /// Tells the temporaries of this store from those of others.
    token: u64,
    temporaries: AtomicU64,
    /// The directories that are there: blocks come in no order, but most directories exist soon.
    made: Mutex<HashSet<PathBuf>>,
}

impl Directory {
    /// The directory at `base`; it need not exist before something is written.
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

    /// Runs blocking work on this store's threads.
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
    /// [`Directory::blocking`] for what cannot be undone.
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
    /// Makes all threads hang until what it returns is dropped.
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

    /// What the directory lies on, looked up once it or a directory above it can be.
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

    /// On a network file system other machines may see a file later than it is there.
    fn exclusive(&self) -> Exclusive {
        let looks = self.0.looks.load(Ordering::Relaxed) || self.0.medium.get() == Some(&Medium::Network);
        if looks { Exclusive::CheckThenWrite } else { Exclusive::Always }
    }

    /// More than two would only wait for the directory's lock.
    fn jobs(&self) -> usize {
        2
    }

    fn is_local(&self) -> bool {
        true
    }
}
