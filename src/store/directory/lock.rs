//! The native lock of a local directory, and removal of dead writers' temporary files.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::medium::Medium;
use super::write::{make_all, still_wanted};
use super::{Directory, Inner, WRITE_PATIENCE};
use crate::format::layout::TEMPORARY;
use crate::store::caller::Caller;
use crate::store::{Lock, StoreError, StoreErrorKind};

/// On a network file system a temporary file this old has no writer any more; locks do not tell there.
const STALE: Duration = Duration::from_secs(3600);

impl Inner {
    /// Locks the directory for `store`; `None` on a network file system, where other machines may not see the lock.
    pub(super) fn lock(&self, store: Directory) -> Result<Option<Arc<dyn Lock>>, StoreError> {
        if let Some(error) = self.unmounted() {
            return Err(error);
        }
        if self.medium() == Medium::Network {
            return Ok(None);
        }
        let fail = |e: io::Error| self.error(&self.base, &e);
        make_all(&self.base).map_err(fail)?;
        let base = File::open(&self.base).map_err(fail)?;
        match rustix::fs::flock(&base, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let why = "another publisher is at work here";
                return Err(StoreError::whole(&self.location, StoreErrorKind::Locked, why));
            }
            // A file system without locks.
            Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => return Ok(None),
            Err(e) => return Err(fail(e.into())),
        }
        self.made().clear();
        Ok(Some(Arc::new(DirectoryLock { base: Mutex::new(Some(base)), store })))
    }

    /// Releases the lock. Closing the directory would not suffice: a forked child shares the descriptor until it calls
    /// exec.
    fn unlock(&self, base: &File) {
        let _ = fs::remove_dir(self.base.join(TEMPORARY));
        let _ = rustix::fs::flock(base, FlockOperation::Unlock);
    }

    /// Removes temporary files of dead writers, and their directory if it is then empty.
    pub(super) fn sweep(&self, caller: &Caller) -> Result<(), StoreError> {
        let directory = self.base.join(TEMPORARY);
        // Following a link would delete files of another directory.
        if fs::symlink_metadata(&directory).is_ok_and(|meta| !meta.is_dir()) {
            return fs::remove_file(&directory).map_err(|e| self.error(&directory, &e));
        }
        let names = match fs::read_dir(&directory) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(self.error(&directory, &e)),
        };
        for entry in names {
            let path = entry.map_err(|e| self.error(&directory, &e))?.path();
            if self.is_left_over(&path) {
                match still_wanted(caller).and_then(|()| fs::remove_file(&path)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(self.error(&path, &e)),
                    _ => {}
                }
            }
        }
        let _ = fs::remove_dir(&directory);
        Ok(())
    }

    /// Whether this file has no writer any more. Its writer keeps it locked until it is in place; on a network file
    /// system only its age can tell.
    fn is_left_over(&self, path: &Path) -> bool {
        let Ok(meta) = fs::symlink_metadata(path) else { return false };
        if meta.is_dir() {
            return false;
        }
        if self.medium() == Medium::Network || !meta.is_file() {
            let age = meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            return !meta.is_file() || age.is_some_and(|age| age > STALE);
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) != Err(Errno::WOULDBLOCK),
            Err(_) => true,
        }
    }
}

/// The base directory, open and locked until released.
#[derive(Debug)]
struct DirectoryLock {
    base: Mutex<Option<File>>,
    store: Directory,
}

#[async_trait]
impl Lock for DirectoryLock {
    async fn release(&self, _finished: bool) {
        let base = self.base.lock().unwrap_or_else(PoisonError::into_inner).take();
        let released = self.store.blocking(WRITE_PATIENCE, move |inner| {
            if let Some(base) = base {
                inner.unlock(&base);
            }
            Ok(())
        });
        // If the directory hangs, the lock ends with the process.
        let _ = released.await;
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        if let Some(base) = self.base.get_mut().unwrap_or_else(PoisonError::into_inner) {
            self.store.0.unlock(base);
        }
    }
}
