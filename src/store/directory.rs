//! A mirror in a directory of this machine: a web server's document root, a mounted disk, a share.
//!
//! Objects are written under `.hfl-tmp/` and moved into place, so a reader or a crash sees all of an object or nothing.
//! The data reaches the disk at the barrier, by one `syncfs`, not object by object. The lock is `flock` on the base
//! directory itself: it leaves no file behind and ends with its holder.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{FlockOperation, RenameFlags};

use super::{Entry, Exclusive, Fetch, Freshness, Lock, Put, Store, StoreError, StoreErrorKind, Swap};
use crate::layout::RepoPath;

/// Where objects are written before they are moved into place; hidden, and swept by whoever holds the lock.
const TEMPORARY: &str = ".hfl-tmp";

/// A directory as a store.
#[derive(Debug, Clone)]
pub struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base: PathBuf,
    location: String,
    temporaries: AtomicU64,
    /// The directory that was made last: blocks come in no order, but most directories exist soon.
    made: Mutex<std::collections::HashSet<PathBuf>>,
}

impl Directory {
    /// The directory at `base`; it need not exist before something is written.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        let base = base.into();
        let location = base.display().to_string();
        let (temporaries, made) = (AtomicU64::new(0), Mutex::default());
        Self(Arc::new(Inner { base, location, temporaries, made }))
    }

    /// Runs blocking work where it does not hold up anybody.
    async fn blocking<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|e| Err(StoreError::whole(&self.0.location, StoreErrorKind::Other, e.to_string())))
    }
}

impl Inner {
    fn path(&self, path: &RepoPath) -> PathBuf {
        self.base.join(path.as_str())
    }

    fn error(&self, path: &Path, error: &io::Error) -> StoreError {
        StoreError::io(path.display().to_string(), error)
    }

    fn read(&self, path: &RepoPath, max_bytes: u64) -> Result<Bytes, StoreError> {
        let file_path = self.path(path);
        let fail = |e: io::Error| self.error(&file_path, &e);
        let file = File::open(&file_path).map_err(fail)?;
        let meta = file.metadata().map_err(fail)?;
        if !meta.is_file() {
            return Err(StoreError::at(&self.location, path, StoreErrorKind::Protocol, "not a regular file"));
        }
        if meta.len() > max_bytes {
            let why = format!("{} bytes, expected at most {max_bytes}", meta.len());
            return Err(StoreError::at(&self.location, path, StoreErrorKind::TooLong, why));
        }
        let mut bytes = Vec::with_capacity(meta.len() as usize);
        file.take(max_bytes).read_to_end(&mut bytes).map_err(fail)?;
        Ok(bytes.into())
    }

    /// Makes a directory and its parents, once for each.
    fn make(&self, directory: &Path) -> Result<(), StoreError> {
        let known = |m: &Mutex<std::collections::HashSet<PathBuf>>| m.lock().is_ok_and(|m| m.contains(directory));
        if known(&self.made) {
            return Ok(());
        }
        fs::create_dir_all(directory).map_err(|e| self.error(directory, &e))?;
        if let Ok(mut made) = self.made.lock() {
            made.insert(directory.to_owned());
        }
        Ok(())
    }

    /// Writes `bytes` to a file of its own and has `place` move it to its path. Directories that somebody else has removed
    /// meanwhile are made again, once.
    fn write<T>(
        &self,
        path: &RepoPath,
        bytes: &[u8],
        place: impl Fn(&Path, &Path) -> io::Result<T>,
    ) -> Result<T, StoreError> {
        match self.write_once(path, bytes, &place) {
            Err(e) if e.kind() == StoreErrorKind::NotFound => {
                if let Ok(mut made) = self.made.lock() {
                    made.clear();
                }
                self.write_once(path, bytes, &place)
            }
            written => written,
        }
    }

    fn write_once<T>(
        &self,
        path: &RepoPath,
        bytes: &[u8],
        place: impl Fn(&Path, &Path) -> io::Result<T>,
    ) -> Result<T, StoreError> {
        let target = self.path(path);
        let temporary = self.base.join(TEMPORARY);
        self.make(&temporary)?;
        self.make(target.parent().unwrap_or(&self.base))?;
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = temporary.join(format!("{}-{number}", std::process::id()));
        let done = write_file(&temporary, bytes).and_then(|()| place(&temporary, &target));
        if done.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        done.map_err(|e| self.error(&target, &e))
    }

    fn put_new(&self, path: &RepoPath, bytes: &[u8]) -> Result<Put, StoreError> {
        if self.path(path).symlink_metadata().is_ok() {
            return Ok(Put::Exists);
        }
        self.write(path, bytes, |from, to| match move_new(from, to) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(from)?;
                Ok(Put::Exists)
            }
            other => other.map(|()| Put::Created),
        })
    }

    /// Replaces a file that must survive a power cut at once: the head.
    fn replace(&self, path: &RepoPath, bytes: &[u8]) -> Result<(), StoreError> {
        self.write(path, bytes, |from, to| {
            File::open(from)?.sync_all()?;
            fs::rename(from, to)?;
            File::open(to.parent().unwrap_or(to))?.sync_all()
        })
    }

    fn swap(&self, path: &RepoPath, old: Option<&[u8]>, new: &[u8]) -> Result<Swap, StoreError> {
        let found = match self.read(path, 64 << 20) {
            Ok(bytes) => Some(bytes),
            Err(e) if e.kind() == StoreErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        if found.as_deref() != old {
            return Ok(Swap::Changed);
        }
        self.replace(path, new).map(|()| Swap::Done)
    }

    fn sync(&self) -> Result<(), StoreError> {
        let fail = |e: io::Error| self.error(&self.base, &e);
        let base = File::open(&self.base).map_err(fail)?;
        rustix::fs::syncfs(&base).map_err(|e| fail(e.into()))
    }

    fn lock(&self) -> Result<Box<dyn Lock>, StoreError> {
        let fail = |e: io::Error| self.error(&self.base, &e);
        fs::create_dir_all(&self.base).map_err(fail)?;
        let base = OwnedFd::from(File::open(&self.base).map_err(fail)?);
        match rustix::fs::flock(&base, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let why = "another publisher is at work here";
                return Err(StoreError::whole(&self.location, StoreErrorKind::Locked, why));
            }
            Err(e) => return Err(fail(e.into())),
        }
        let _ = fs::remove_dir_all(self.base.join(TEMPORARY));
        if let Ok(mut made) = self.made.lock() {
            made.clear();
        }
        Ok(Box::new(DirectoryLock { _base: base, temporary: self.base.join(TEMPORARY) }))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        let mut pending = vec![self.base.join(prefix)];
        while let Some(directory) = pending.pop() {
            let read = match fs::read_dir(&directory) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                read => read.map_err(|e| self.error(&directory, &e))?,
            };
            for entry in read {
                let entry = entry.map_err(|e| self.error(&directory, &e))?;
                let meta = entry.metadata().map_err(|e| self.error(&entry.path(), &e))?;
                if meta.is_dir() {
                    pending.push(entry.path());
                } else if let Some(path) = self.repo_path(&entry.path()) {
                    entries.push(Entry { path, bytes: meta.len() });
                }
            }
        }
        Ok(entries)
    }

    fn repo_path(&self, path: &Path) -> Option<RepoPath> {
        path.strip_prefix(&self.base).ok()?.to_str()?.parse().ok()
    }
}

/// Writes a file and has the kernel begin to bring it to the disk, so that the barrier has less to wait for.
fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    // Only a hint; a file system that does not take it writes at the barrier.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    Ok(())
}

/// Moves a file to a name that must not exist yet.
fn move_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        done => Ok(done?),
    }
}

#[derive(Debug)]
struct DirectoryLock {
    _base: OwnedFd,
    temporary: PathBuf,
}

#[async_trait]
impl Lock for DirectoryLock {
    async fn release(self: Box<Self>, _finished: bool) {}
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.temporary);
    }
}

#[async_trait]
impl Fetch for Directory {
    async fn get_with(&self, path: &RepoPath, max_bytes: u64, _: Freshness) -> Result<Bytes, StoreError> {
        let path = path.clone();
        self.blocking(move |inner| inner.read(&path, max_bytes)).await
    }

    fn location(&self) -> &str {
        &self.0.location
    }
}

#[async_trait]
impl Store for Directory {
    async fn put_new(&self, path: &RepoPath, bytes: Bytes) -> Result<Put, StoreError> {
        let path = path.clone();
        self.blocking(move |inner| inner.put_new(&path, &bytes)).await
    }

    async fn put_replace(&self, path: &RepoPath, bytes: Bytes) -> Result<(), StoreError> {
        let path = path.clone();
        self.blocking(move |inner| inner.replace(&path, &bytes)).await
    }

    async fn swap(&self, path: &RepoPath, old: Option<&[u8]>, new: Bytes) -> Result<Swap, StoreError> {
        let (path, old) = (path.clone(), old.map(<[u8]>::to_vec));
        self.blocking(move |inner| inner.swap(&path, old.as_deref(), &new)).await
    }

    async fn size(&self, path: &RepoPath) -> Result<Option<u64>, StoreError> {
        let path = path.clone();
        self.blocking(move |inner| match inner.path(&path).metadata() {
            Ok(meta) => Ok(meta.is_file().then_some(meta.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(inner.error(&inner.path(&path), &e)),
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let prefix = prefix.to_owned();
        self.blocking(move |inner| inner.list(&prefix)).await
    }

    async fn delete(&self, path: &RepoPath) -> Result<(), StoreError> {
        let path = path.clone();
        self.blocking(move |inner| match fs::remove_file(inner.path(&path)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(inner.error(&inner.path(&path), &e)),
            _ => Ok(()),
        })
        .await
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        self.blocking(Inner::sync).await
    }

    async fn own_lock(&self) -> Result<Option<Box<dyn Lock>>, StoreError> {
        self.blocking(Inner::lock).await.map(Some)
    }

    fn exclusive(&self) -> Exclusive {
        Exclusive::Always
    }

    /// More than two would only wait for the directory's lock.
    fn jobs(&self) -> usize {
        2
    }

    fn is_local(&self) -> bool {
        true
    }
}
