//! Reading, and deciding when an object is certainly missing.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};

use super::Inner;
use super::medium::MountPoints;
use crate::format::layout::RepoPath;
use crate::store::{Entry, StoreError, StoreErrorKind};

impl Inner {
    pub(super) fn read(&self, path: &RepoPath, max_bytes: u64) -> Result<Bytes, StoreError> {
        let file_path = self.path(path);
        let fail = |e: io::Error| self.missing_or(&file_path, &e);
        let file = open(&file_path).map_err(fail)?;
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

    pub(super) fn size(&self, path: &RepoPath) -> Result<Option<u64>, StoreError> {
        let file_path = self.path(path);
        match fs::metadata(&file_path) {
            Ok(meta) => Ok(meta.is_file().then_some(meta.len())),
            Err(e) => match self.missing_or(&file_path, &e) {
                error if error.kind() == StoreErrorKind::NotFound => Ok(None),
                error => Err(error),
            },
        }
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        let mut pending = vec![self.base.join(prefix)];
        while let Some(directory) = pending.pop() {
            let read = match fs::read_dir(&directory) {
                Ok(read) => read,
                Err(e) => match self.missing_or(&directory, &e) {
                    error if error.kind() == StoreErrorKind::NotFound => continue,
                    error => return Err(error),
                },
            };
            for entry in read {
                let path = entry.map_err(|e| self.error(&directory, &e))?.path();
                self.list_one(path, &mut entries, &mut pending)?;
            }
        }
        Ok(entries)
    }

    /// Adds a file to `entries` and a directory to `pending`. A link to a file counts as that file.
    fn list_one(&self, at: PathBuf, entries: &mut Vec<Entry>, pending: &mut Vec<PathBuf>) -> Result<(), StoreError> {
        let mut meta = match fs::symlink_metadata(&at) {
            // Deleted since the directory was read.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            meta => meta.map_err(|e| self.error(&at, &e))?,
        };
        if meta.is_dir() {
            pending.push(at);
            return Ok(());
        }
        if meta.is_symlink() {
            match fs::metadata(&at) {
                Ok(target) => meta = target,
                Err(_) => return Ok(()),
            }
        }
        if let Some(path) = self.repo_path(&at).filter(|_| meta.is_file()) {
            entries.push(Entry { path, bytes: meta.len() });
        }
        Ok(())
    }

    fn repo_path(&self, path: &Path) -> Option<RepoPath> {
        path.strip_prefix(&self.base).ok()?.to_str()?.parse().ok()
    }

    /// The error for a failed open of `path`: [`StoreErrorKind::NotFound`] only if the object is certainly missing.
    pub(super) fn missing_or(&self, path: &Path, error: &io::Error) -> StoreError {
        if error.kind() != io::ErrorKind::NotFound {
            return self.error(path, error);
        }
        if let Some(error) = self.unmounted() {
            return error;
        }
        match self.broken_link(path) {
            Some(link) => {
                let why = "a symbolic link that leads nowhere; is what it leads to mounted?";
                StoreError::whole(&link.display().to_string(), StoreErrorKind::Unreachable, why)
            }
            None => self.error(path, error),
        }
    }

    /// An error if `/etc/fstab` has a mount point at or above the mirror that is not mounted.
    pub(super) fn unmounted(&self) -> Option<StoreError> {
        let points = self.mount_points.get_or_init(|| MountPoints::above(&self.base));
        let why = format!("{} is in /etc/fstab, but nothing is mounted there", points.unmounted()?.display());
        Some(StoreError::whole(&self.location, StoreErrorKind::Unreachable, why))
    }

    /// The broken symbolic link between the base and `path`, if any.
    fn broken_link(&self, path: &Path) -> Option<PathBuf> {
        let mut steps = path.ancestors().take_while(|step| step.starts_with(&self.base));
        let broken =
            |step: &&Path| fs::symlink_metadata(step).is_ok_and(|m| m.is_symlink()) && fs::metadata(step).is_err();
        steps.find(broken).map(Path::to_owned)
    }
}

/// Opens a file without blocking on a FIFO. Links are followed: a publisher may have laid out the directory with them.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}
