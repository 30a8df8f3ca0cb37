//! Locks between the processes that share a cache directory.
//!
//! A lock is a small file that its holder locks (`flock`) and marks as alive now and then. The kernel releases it when
//! the holder dies; whoever finds it held can see whether the holder still does anything. Locks only save work: nothing
//! is read, written or removed on the strength of one, so a file system without locks, or one that forgets them, costs
//! requests and nothing else.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::{Duration, SystemTime};

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;

use super::files::Files;

/// The directory of the lock files.
const DIRECTORY: &str = "locks";

/// A lock that this process holds, until it is dropped.
#[derive(Debug)]
pub struct Held(File);

impl Held {
    /// Marks the holder as alive.
    pub fn beat(&self) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let _ = fs::futimens(self.0.as_fd(), &Timestamps { last_access: now, last_modification: now });
    }

    /// Releases the lock, though the file is still open.
    pub fn release(&self) {
        let _ = fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// Who has a lock.
#[derive(Debug)]
pub enum Lock {
    /// This process, from now on.
    Mine(Held),
    /// Another process, or another task of this one; and how long ago it was last marked as alive.
    Theirs(Duration),
    /// Nobody: there are no locks here.
    None,
}

/// Takes the lock `name`, unless it is held. Does not wait for its holder; blocks the thread as long as the disk does.
pub fn take(files: &Files, name: &str) -> Lock {
    let Some(file) = open(files, name) else { return Lock::None };
    match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            let held = Held(file);
            held.beat();
            Lock::Mine(held)
        }
        Err(Errno::WOULDBLOCK) => {
            let beaten = file.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            Lock::Theirs(SystemTime::now().duration_since(beaten).unwrap_or_default())
        }
        Err(_) => Lock::None,
    }
}

/// Gives up the lock `name` for lost: the next to take it does not wait for its holder.
pub fn abandon(files: &Files, name: &str) {
    let _ = fs::unlinkat(files.base(), format!("{DIRECTORY}/{name}"), AtFlags::empty());
}

fn open(files: &Files, name: &str) -> Option<File> {
    let path = format!("{DIRECTORY}/{name}");
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    let opened = files.with_parent(&path, || fs::openat(files.base(), path.as_str(), flags, mode));
    let file = File::from(opened.ok()?);
    file.metadata().is_ok_and(|meta| meta.is_file()).then_some(file)
}
