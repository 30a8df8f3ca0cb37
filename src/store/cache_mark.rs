//! The mark of a directory whose files may be removed at any time, by the Cache Directory Tagging Specification
//! (<https://bford.info/cachedir/>): a file `CACHEDIR.TAG`, here with a line of hfl's own.
//!
//! A cache looks like a mirror. The mark is what tells them apart: only below it is anything removed to make room, and
//! nothing is published there.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

use crate::system::{atomic_file, file_lock};

const FILE: &str = "CACHEDIR.TAG";
const TEXT: &str = "\
Signature: 8a477f597d28d172789f06886806bc55
# This directory is a cache of hfl: what lies in it is removed when room is needed.
# For information about cache directory tags see https://bford.info/cachedir/
";
/// The part of the text that has to be there, in lines.
const LINES: usize = 2;
/// What an empty file system has.
const OF_A_FILE_SYSTEM: &str = "lost+found";

/// A directory that cannot be had as a cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It has files, and nothing says that they may be removed.
    #[error(
        "{} is not empty, and no cache of hfl (it has no {FILE} of hfl): what lies there could be removed to make room",
        .0.display()
    )]
    NotACache(PathBuf),
    /// It cannot be made, read or written to.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Makes sure that `directory` is a cache: it has the mark, or is empty and gets it. It is made where it is missing.
///
/// # Errors
/// See [`CacheError`]; nothing was changed then.
pub fn claim(directory: &Path) -> Result<(), CacheError> {
    fs::create_dir_all(directory)?;
    let lock = File::open(directory)?;
    // Of two that begin at the same time, one finds the other's mark. Not every file system can do that.
    let _ = file_lock::lock(&lock);
    if is_marked(directory)? {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        if entry?.file_name() != OF_A_FILE_SYSTEM {
            return Err(CacheError::NotACache(directory.to_owned()));
        }
    }
    Ok(atomic_file::replace(&directory.join(FILE), TEXT.as_bytes())?)
}

/// Whether `directory` carries the mark of a cache of hfl.
///
/// # Errors
/// A mark that cannot be read.
pub fn is_marked(directory: &Path) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match open(directory.join(FILE), flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(e) if [rustix::io::Errno::NOENT, rustix::io::Errno::NOTDIR, rustix::io::Errno::LOOP].contains(&e) => {
            return Ok(false);
        }
        Err(e) => return Err(e.into()),
    };
    let wanted: Vec<&str> = TEXT.lines().take(LINES).collect();
    let mut text = Vec::new();
    file.take(TEXT.len() as u64).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).lines().take(LINES).eq(wanted))
}
