//! Where a reader records the versions it has seen: one small file per image in a user directory.
//!
//! Two readers of one image may run at the same time, so an update loads, judges and stores under one lock. A file that
//! exists but cannot be parsed is an error: going on without it would discard the protection.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

use super::rollback::{Refused, VersionHistory};
use crate::format::name::Name;
use crate::system::{atomic_file, directories, file_lock};

/// A longer file is not one of ours.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// Directory of the version histories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDirectory(PathBuf);

/// Why the version history of an image could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Its file cannot be read or parsed; nothing may be accepted as if it did not exist.
    #[error("{}: cannot tell which versions were seen before: {why}", file.display())]
    Unreadable {
        /// History file.
        file: PathBuf,
        /// What is wrong with it.
        why: io::Error,
    },
    /// It cannot be written; what was seen so far is known.
    #[error("{}: {why}", file.display())]
    Unwritable {
        /// History file.
        file: PathBuf,
        /// The I/O error.
        why: io::Error,
    },
    /// The change was refused; nothing was written.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl StateDirectory {
    /// Uses this directory, which is created when something is to be recorded.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// State directory of the current user, see [`directories::state`].
    pub fn of_user() -> Option<Self> {
        directories::state().map(Self)
    }

    /// The history file of `image`.
    pub fn file(&self, image: &Name) -> PathBuf {
        self.0.join("seen").join(image.as_str())
    }

    /// Loads the history of `image`; empty if there is no file. Blocks the thread.
    ///
    /// # Errors
    /// [`StateError::Unreadable`].
    pub fn load(&self, image: &Name) -> Result<VersionHistory, StateError> {
        let file = self.file(image);
        read(&file).map_err(|why| StateError::Unreadable { file, why })
    }

    /// Updates the history of `image`; a power cut leaves the old or the new one. Blocks the thread.
    ///
    /// # Errors
    /// Any [`StateError`]; nothing was written then.
    pub fn update<T>(
        &self,
        image: &Name,
        change: impl FnOnce(&mut VersionHistory) -> Result<T, Refused>,
    ) -> Result<T, StateError> {
        let file = self.file(image);
        let unwritable = |why| StateError::Unwritable { file: file.clone(), why };
        let lock = self.lock();
        let mut history = self.load(image)?;
        let before = history.clone();
        let done = change(&mut history)?;
        let _lock = lock.map_err(unwritable)?;
        if history != before {
            atomic_file::replace(&file, history.text().as_bytes()).map_err(unwritable)?;
        }
        Ok(done)
    }

    /// Takes the lock. It is held until the file is dropped or the process ends.
    fn lock(&self) -> io::Result<File> {
        let directory = self.0.join("seen");
        std::fs::create_dir_all(&directory)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Any process that can open it can hold the lock.
        let file = File::from(open(directory.join(".lock"), flags, Mode::RUSR | Mode::WUSR)?);
        let _ = rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR);
        file_lock::lock(&file)?;
        Ok(file)
    }
}

fn read(file: &Path) -> io::Result<VersionHistory> {
    let opened = match File::open(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(VersionHistory::default()),
        opened => opened?,
    };
    let mut text = String::new();
    opened.take(FILE_MAX_BYTES).read_to_string(&mut text)?;
    VersionHistory::parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its text is damaged"))
}
