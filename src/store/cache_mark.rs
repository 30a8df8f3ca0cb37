//! The mark of a cache directory, whose files may be removed at any time. It follows the Cache Directory Tagging
//! Specification (<https://bford.info/cachedir/>): a file `CACHEDIR.TAG`, here with an additional line of hfl.
//!
//! A cache looks like a mirror; the mark distinguishes them. Files are evicted only below it, and nothing is published
//! there.

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
/// Number of leading lines that must match.
const LINES: usize = 2;
/// Entry of an empty file system.
const OF_A_FILE_SYSTEM: &str = "lost+found";

/// Why a directory cannot be used as a cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It contains files and is not marked as a cache.
    #[error(
        "{} is not empty, and no cache of hfl (it has no {FILE} of hfl): what lies there could be removed to make room",
        .0.display()
    )]
    NotACache(PathBuf),
    /// It cannot be created, read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Ensures that `directory` is a cache: it has the mark, or is empty and gets it. A missing directory is created.
///
/// # Errors
/// See [`CacheError`]; then the directory was not marked.
pub fn claim(directory: &Path) -> Result<(), CacheError> {
    fs::create_dir_all(directory)?;
    let lock = File::open(directory)?;
    // Of two processes that start at once, the second finds the mark. Not every file system supports locks.
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

/// Whether `directory` has the cache mark of hfl.
///
/// # Errors
/// The mark cannot be read.
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
