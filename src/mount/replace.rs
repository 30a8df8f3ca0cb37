//! Replaces a file whole: a reader, a crash or a power cut finds the old one or the new one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};

/// Tells files apart that are written at the same time.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Gives the file at `path` these bytes, and makes the directories above it.
///
/// # Errors
/// Those of the file system; nothing is left behind then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    Place::open(path)?.replace(bytes)
}

/// The place of a file that is replaced again and again: its directory stays open, and no path is followed any more.
#[derive(Debug)]
pub struct Place {
    directory: OwnedFd,
    name: OsString,
}

impl Place {
    /// The place at `path`; the directories above it are made.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        Ok(Self { directory: File::open(directory)?.into(), name })
    }

    /// Gives the file these bytes.
    ///
    /// # Errors
    /// Those of the file system; nothing is left behind then.
    pub fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let number = NUMBER.fetch_add(1, Relaxed);
        let temporary = format!(".{}.{}-{number}", self.name.to_string_lossy(), std::process::id());
        let written = self.write(&temporary, bytes).and_then(|()| {
            renameat(&self.directory, &temporary, &self.directory, &self.name)?;
            Ok(())
        });
        if written.is_err() {
            let _ = unlinkat(&self.directory, &temporary, AtFlags::empty());
        }
        written
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.directory, name, flags, Mode::from_raw_mode(0o666))?);
        file.write_all(bytes)?;
        file.sync_all()
    }
}
