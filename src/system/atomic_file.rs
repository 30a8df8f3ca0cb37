//! Replaces a file whole: a reader, a crash or a power cut finds the old one or the new one.
//!
//! What is written first is a new file beside it, under a name that cannot be known in advance: nothing that another user
//! has put there is written to, followed or removed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};

/// The part of a file's name that its temporary file has too, in bytes; names may have 255.
const NAME_PART_MAX_BYTES: usize = 200;

/// A name for a temporary file that is renamed to `name` later: of this process alone, and not to be known in advance.
pub fn temporary_name(name: &OsStr) -> OsString {
    let mut temporary = OsString::from(".");
    let bytes = name.as_bytes();
    temporary.push(OsStr::from_bytes(&bytes[..bytes.len().min(NAME_PART_MAX_BYTES)]));
    temporary.push(format!(".{:016x}.partial", RandomState::new().hash_one(())));
    temporary
}

/// Refuses a place where a user cannot want a file: something else than a file is there, or it is missing in `/dev`, where
/// the name of a device that is not plugged in would become a file in memory.
///
/// # Errors
/// Why not.
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

/// Whether a path lies in `/dev`; `/dev/shm` is for files.
fn is_in_dev(path: &Path) -> bool {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    directory.starts_with("/dev") && !directory.starts_with("/dev/shm")
}

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
