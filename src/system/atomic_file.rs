//! Replaces files atomically: after a crash or power cut, and for readers, there is the old file or the new one.
//!
//! The data is first written to a new file beside it, with an unpredictable name. So no file planted by another user is
//! written, followed or removed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};

/// How much of a file's name its temporary file's name contains, in bytes; names are limited to 255.
const NAME_PART_MAX_BYTES: usize = 200;

/// A name for a temporary file that is later renamed to `name`: unique to this process and unpredictable.
pub fn temporary_name(name: &OsStr) -> OsString {
    let mut temporary = OsString::from(".");
    let bytes = name.as_bytes();
    temporary.push(OsStr::from_bytes(&bytes[..bytes.len().min(NAME_PART_MAX_BYTES)]));
    temporary.push(format!(".{:016x}.partial", RandomState::new().hash_one(())));
    temporary
}

/// Refuses an output path that is surely a mistake: one that exists but is not a file, or is missing in `/dev`. There
/// the name of an unplugged device would become a file in memory.
///
/// # Errors
/// The reason for the refusal.
pub fn check_output(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(meta) if !meta.is_file() => Err(io::Error::other("there is something else than a file")),
        Ok(_) => Ok(()),
        Err(_) if is_in_dev(path) => {
            Err(io::Error::new(io::ErrorKind::NotFound, "no such device (files are not made in /dev)"))
        }
        Err(_) => Ok(()),
    }
}

/// Whether a path is in `/dev`, except in `/dev/shm`, which is for files.
fn is_in_dev(path: &Path) -> bool {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    directory.starts_with("/dev") && !directory.starts_with("/dev/shm")
}

/// Replaces the file at `path` with `bytes`; creates missing parent directories.
///
/// # Errors
/// Those of the file system; nothing is left behind then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    Place::open(path)?.replace(bytes)
}

/// A file that is replaced repeatedly: its directory stays open, so its path is resolved only once.
#[derive(Debug)]
pub struct Place {
    directory: OwnedFd,
    name: OsString,
}

impl Place {
    /// Opens the directory of `path`; creates missing parent directories.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        Ok(Self { directory: File::open(directory)?.into(), name })
    }

    /// Replaces the file's content.
    ///
    /// # Errors
    /// Those of the file system; nothing is left behind then.
    pub fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let temporary = temporary_name(&self.name);
        let written = self.write(&temporary, bytes).and_then(|()| {
            renameat(&self.directory, &temporary, &self.directory, &self.name)?;
            Ok(())
        });
        if written.is_err() {
            let _ = unlinkat(&self.directory, &temporary, AtFlags::empty());
        }
        written
    }

    fn write(&self, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.directory, name, flags, Mode::from_raw_mode(0o666))?);
        file.write_all(bytes)?;
        file.sync_all()
    }
}
