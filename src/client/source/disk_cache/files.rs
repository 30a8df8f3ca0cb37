//! The files of the disk cache.
//!
//! Everything is accessed relative to one handle of the directory. Only regular files in real directories are opened: a
//! symbolic link, fifo or device in place of a block is a bad file.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::format::digest::BlockId;
use crate::format::layout::{RepoPath, TEMPORARY};

/// A file that is read is marked as used at most once in this time: one write for many reads.
const FRESH: Duration = Duration::from_secs(600);

/// What is found at a block's path.
#[derive(Debug)]
pub enum Found {
    /// Nothing, or nothing readable.
    Nothing,
    /// Something other than the block's file, and why.
    Bad(String),
    /// The content of a file.
    File(Vec<u8>),
}

/// The cache directory.
#[derive(Debug, Clone)]
pub struct Files {
    base: Arc<OwnedFd>,
    temporaries: Arc<AtomicU64>,
}

impl Files {
    /// Opens the cache in `directory`, creating it if missing.
    ///
    /// # Errors
    /// The directory cannot be created or opened.
    pub fn open(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let base = Arc::new(OwnedFd::from(File::open(directory)?));
        Ok(Self { base, temporaries: Arc::default() })
    }

    /// Handle of the directory.
    pub fn base(&self) -> &OwnedFd {
        &self.base
    }

    /// Reads the file of a block, of at most `max_bytes`.
    pub fn read(&self, id: &BlockId, max_bytes: u64) -> Found {
        let path = RepoPath::block(id);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match fs::openat(&self.base, path.as_str(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::LOOP) => return Found::Bad("it is a symbolic link".into()),
            Err(Errno::NXIO) => return Found::Bad("it is a socket".into()),
            Err(_) => return Found::Nothing,
        };
        match read_whole(&file, max_bytes) {
            Ok(bytes) => {
                touch(&file);
                Found::File(bytes)
            }
            Err(why) => Found::Bad(why),
        }
    }

    /// Size of a block's file in bytes, if there is a regular file.
    pub fn bytes(&self, id: &BlockId) -> Option<u64> {
        let path = RepoPath::block(id);
        let stat = fs::statat(&self.base, path.as_str(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        FileType::from_raw_mode(stat.st_mode).is_file().then_some(stat.st_size as u64)
    }

    /// Removes whatever is at the block's path, as far as permitted.
    pub fn drop_bad(&self, id: &BlockId) {
        let path = RepoPath::block(id);
        if fs::unlinkat(&self.base, path.as_str(), AtFlags::empty()) == Err(Errno::ISDIR) {
            let _ = fs::unlinkat(&self.base, path.as_str(), AtFlags::REMOVEDIR);
        }
    }

    /// Writes a block's file atomically; returns its size on disk, in bytes.
    ///
    /// # Errors
    /// Those of the file system; nothing is left behind then.
    pub fn write(&self, id: &BlockId, bytes: &[u8]) -> io::Result<u64> {
        let path = RepoPath::block(id);
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = format!("{TEMPORARY}/{}-{number}", std::process::id());
        let done = self.write_new(&temporary, bytes).and_then(|()| self.rename(&temporary, path.as_str()));
        if done.is_err() {
            let _ = fs::unlinkat(&self.base, temporary.as_str(), AtFlags::empty());
        }
        done.map(|()| disk_bytes(bytes.len() as u64))
    }

    fn write_new(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let file = self.with_parent(path, || fs::openat(&self.base, path, flags, mode))?;
        let mut file = File::from(file);
        fs::fchmod(&file, mode)?;
        file.write_all(bytes)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(self.with_parent(to, || fs::renameat(&self.base, from, &self.base, to))?)
    }

    /// Runs `work`; if directories above `path` are missing, creates them and runs it again.
    ///
    /// # Errors
    /// Those of `work`, and of creating directories.
    pub fn with_parent<T>(&self, path: &str, work: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        match work() {
            Err(Errno::NOENT) => {}
            done => return done,
        }
        for (end, _) in path.match_indices('/') {
            match fs::mkdirat(&self.base, &path[..end], Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
            }
        }
        work()
    }
}

/// Whether the process named in the name of a temporary file is running.
pub fn writer_lives(name: &CStr) -> bool {
    let number = name.to_str().ok().and_then(|name| name.split('-').next()?.parse().ok());
    let process = number.and_then(Pid::from_raw);
    process.is_some_and(|process| test_kill_process(process) != Err(Errno::SRCH))
}

/// Size on disk of a file of `bytes`: whole pages of 4096 bytes.
pub fn disk_bytes(bytes: u64) -> u64 {
    bytes.next_multiple_of(4096)
}

fn read_whole(file: &File, max_bytes: u64) -> Result<Vec<u8>, String> {
    let meta = file.metadata().map_err(|e| e.to_string())?;
    if !meta.is_file() {
        return Err("it is no regular file".into());
    }
    if meta.len() > max_bytes {
        return Err(format!("it has {} bytes, expected at most {max_bytes}", meta.len()));
    }
    let mut bytes = Vec::with_capacity(meta.len() as usize + 1);
    file.take(max_bytes).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// Marks a file as used now, unless that was done recently.
fn touch(file: &File) {
    let used = file.metadata().and_then(|m| m.modified()).ok();
    if used.is_some_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < FRESH)) {
        return;
    }
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let keep = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let _ = fs::futimens(file.as_fd(), &Timestamps { last_access: keep, last_modification: now });
}
