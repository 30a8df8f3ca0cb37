//! Where a reader remembers which versions it has seen: one small file for each image in a directory of the user's.
//!
//! Two readers of one image may run at the same time: an update loads, judges and stores under one lock. A file that is
//! there and cannot be understood is an error, since going on without it would mean to forget what it protects from.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

use super::rollback::{Refused, VersionHistory};
use crate::format::name::Name;
use crate::system::{atomic_file, file_lock};

/// More is no file of ours.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// A directory that keeps what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDirectory(PathBuf);

/// Why the memory of an image could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Its file cannot be read, or is none; nothing may be accepted as if it were not there.
    #[error("{}: cannot tell which versions were seen before: {why}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: io::Error,
    },
    /// It cannot be written; what was seen so far is known.
    #[error("{}: {why}", file.display())]
    Unwritable {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: io::Error,
    },
    /// The change itself was refused; nothing was written.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl StateDirectory {
    /// The state in this directory, which is made when something is to be remembered.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// The one of the user who runs this program: `$XDG_STATE_HOME/hfl`, `~/.local/state/hfl`, for root `/var/lib/hfl`.
    pub fn of_user() -> Option<Self> {
        user_directory("XDG_STATE_HOME", ".local/state", "/var/lib/hfl").map(Self)
    }

    /// The file in which it is remembered what was seen of `image`.
    pub fn file(&self, image: &Name) -> PathBuf {
        self.0.join("seen").join(image.as_str())
    }

    /// What was seen of `image`; nothing where there is no file. Blocks the thread.
    ///
    /// # Errors
    /// [`StateError::Unreadable`].
    pub fn load(&self, image: &Name) -> Result<VersionHistory, StateError> {
        let file = self.file(image);
        read(&file).map_err(|why| StateError::Unreadable { file, why })
    }

    /// Changes what is remembered of `image`; a power cut leaves the old or the new. Blocks the thread.
    ///
    /// # Errors
    /// All of [`StateError`]; nothing was written then.
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

    /// Held until it is dropped; ends with its process.
    fn lock(&self) -> io::Result<File> {
        let directory = self.0.join("seen");
        std::fs::create_dir_all(&directory)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Whoever can open it can hold it.
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

/// Where the files of a kind of the user who runs this program belong: below the XDG variable, else below the home
/// directory; root's in a place of the system.
pub fn user_directory(variable: &str, below_home: &str, roots: &str) -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(given) = absolute(variable) {
        return Some(given.join("hfl"));
    }
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from(roots));
    }
    Some(absolute("HOME")?.join(below_home).join("hfl"))
}
