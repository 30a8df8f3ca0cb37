//! Writing: to a temporary file, verified, then renamed into place.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, OFlags, RenameFlags};
use rustix::io::Errno;

use super::Inner;
use super::medium::Medium;
use crate::format::layout::{Kind, RepoPath, TEMPORARY};
use crate::store::arrival::all_arrived;
use crate::store::caller::Caller;
use crate::store::{Put, StoreError, StoreErrorKind, Swap};

/// Modes that let a web server, which runs as another user, read files and enter directories.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;
/// Size limit of objects in a compare-and-swap.
const SWAP_MAX_BYTES: u64 = 64 << 20;

impl Inner {
    pub(super) fn put_new(&self, path: &RepoPath, bytes: &[u8]) -> Result<Put, StoreError> {
        if self.path(path).symlink_metadata().is_ok() {
            return Ok(Put::Exists);
        }
        self.write(path, bytes, |from, to| match self.move_new(from, to) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(from)?;
                Ok(Put::Exists)
            }
            other => other.map(|()| Put::Created),
        })
    }

    /// Replaces a file durably at once, as the head must survive a power cut. The lock object need not, and must not
    /// wait for a slow disk.
    pub(super) fn replace(&self, path: &RepoPath, bytes: &[u8], caller: &Caller) -> Result<(), StoreError> {
        self.write(path, bytes, |from, to| {
            if let Some(mode) = fs::symlink_metadata(to).ok().filter(fs::Metadata::is_file).map(|meta| meta.mode()) {
                fs::set_permissions(from, fs::Permissions::from_mode(mode & 0o777))?;
            }
            let lasts = path.kind() != Kind::Lock;
            if lasts {
                File::open(from)?.sync_all()?;
            }
            still_wanted(caller)?;
            fs::rename(from, to)?;
            if lasts { File::open(to.parent().unwrap_or(to))?.sync_all() } else { Ok(()) }
        })
    }

    pub(super) fn swap(
        &self,
        path: &RepoPath,
        old: Option<&[u8]>,
        new: &[u8],
        caller: &Caller,
    ) -> Result<Swap, StoreError> {
        let found = match self.read(path, SWAP_MAX_BYTES) {
            Ok(bytes) => Some(bytes),
            Err(e) if e.kind() == StoreErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        if found.as_deref() != old {
            return Ok(Swap::Changed);
        }
        self.replace(path, new, caller).map(|()| Swap::Done)
    }

    pub(super) fn delete(&self, path: &RepoPath, caller: &Caller) -> Result<(), StoreError> {
        match still_wanted(caller).and_then(|()| fs::remove_file(self.path(path))) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.error(&self.path(path), &e)),
            _ => Ok(()),
        }
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let fail = |e: io::Error| self.error(&self.base, &e);
        let base = File::open(&self.base).map_err(fail)?;
        rustix::fs::syncfs(&base).map_err(|e| fail(e.into()))
    }

    /// Creates a directory and its parents, once for each.
    pub(super) fn make(&self, directory: &Path) -> Result<(), StoreError> {
        if self.made().contains(directory) {
            return Ok(());
        }
        make_all(directory).map_err(|e| self.error(directory, &e))?;
        self.made().insert(directory.to_owned());
        Ok(())
    }

    pub(super) fn made(&self) -> MutexGuard<'_, std::collections::HashSet<PathBuf>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `bytes` to a temporary file, which `place` moves to its path. Retries once if another process has removed
    /// a directory or the temporary file meanwhile.
    fn write<T>(
        &self,
        path: &RepoPath,
        bytes: &[u8],
        place: impl Fn(&Path, &Path) -> io::Result<T>,
    ) -> Result<T, StoreError> {
        if let Some(error) = self.unmounted() {
            return Err(error);
        }
        match self.write_once(path, bytes, &place) {
            Err(e) if e.kind() == StoreErrorKind::NotFound => {
                self.made().clear();
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
        let temporary = temporary.join(format!("{:016x}-{number}", self.token));
        let fail = |e: io::Error| self.error(&target, &e);
        let file = create(&temporary).map_err(fail)?;
        let done = self.fill(file, &temporary, bytes).and_then(|_open| place(&temporary, &target));
        if done.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        done.map_err(fail)
    }

    /// Writes a file and verifies its size. On a local disk it stays open and locked, which distinguishes it from
    /// leftovers of a dead publisher. On a network file system it is closed first, as write errors may appear only
    /// then.
    fn fill(&self, mut file: File, path: &Path, bytes: &[u8]) -> io::Result<Option<File>> {
        let is_local = self.medium() == Medium::Local;
        if is_local {
            let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        }
        file.write_all(bytes)?;
        // A hint to start writeback; file systems that ignore it write at the barrier.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        if is_local {
            check_size(file.metadata()?.len(), bytes)?;
            return Ok(Some(file));
        }
        file.sync_all()?;
        drop(file);
        check_size(fs::metadata(path)?.len(), bytes)?;
        Ok(None)
    }

    /// Moves a file to a name that must not exist yet. Falls back to check-then-rename where the file system has
    /// neither an exclusive rename nor hard links.
    fn move_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            done => return Ok(done?),
        }
        match rustix::fs::link(from, to) {
            Ok(()) => fs::remove_file(from),
            // The various errors of FUSE file systems and shares without hard links.
            Err(
                Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::IO | Errno::INVAL | Errno::ACCESS | Errno::MLINK,
            ) => {
                self.looks.store(true, Ordering::Relaxed);
                match fs::symlink_metadata(to) {
                    Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
                    Err(e) => Err(e),
                }
            }
            Err(e) => Err(e.into()),
        }
    }
}

/// Creates a new file, world-readable whatever the umask.
fn create(path: &Path) -> io::Result<File> {
    let no_follow = (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits() as i32;
    let file = File::options().write(true).create_new(true).mode(FILE_MODE).custom_flags(no_follow).open(path)?;
    let allowed = file.set_permissions(fs::Permissions::from_mode(FILE_MODE));
    match allowed {
        // A share without file modes.
        Err(e) if !matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => Err(e),
        _ => Ok(file),
    }
}

fn check_size(there: u64, bytes: &[u8]) -> io::Result<()> {
    all_arrived(there, bytes.len() as u64).map_err(io::Error::other)
}

/// Creates a directory and its parents, world-readable whatever the umask. Existing ones are left unchanged.
pub(super) fn make_all(directory: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
        Ok(()) => open_to_all(directory),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make_all(directory.parent().filter(|parent| !parent.as_os_str().is_empty()).ok_or(e)?)?;
            make_all(directory)
        }
        Err(_) if directory.is_dir() => Ok(()),
        Err(e) => Err(e),
    }
}

/// Fails if the caller no longer waits for the operation, or may no longer do it.
pub(super) fn still_wanted(caller: &Caller) -> io::Result<()> {
    if caller.still_wants_blocking() { Ok(()) } else { Err(io::Error::other("it was given up meanwhile")) }
}

/// Makes a directory world-readable; keeps inherited bits such as setgid.
fn open_to_all(directory: &Path) -> io::Result<()> {
    let mode = fs::metadata(directory)?.mode() & 0o7777;
    if mode & DIRECTORY_MODE == DIRECTORY_MODE {
        return Ok(());
    }
    match fs::set_permissions(directory, fs::Permissions::from_mode(mode | DIRECTORY_MODE)) {
        Err(e) if !matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => Err(e),
        _ => Ok(()),
    }
}
