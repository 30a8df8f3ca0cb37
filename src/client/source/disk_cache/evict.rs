//! Evicts old files of the disk cache, on a thread of its own.
//!
//! The age of a file is the time of its last use, stored as its modification time. Other processes may share the
//! directory, so the evictor relies on scans: one at the start, and one after enough writes. A scan needs memory for
//! each distinct minute of last use, not for each file. One process scans and evicts at a time: several at once would
//! each free what is too much.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};

use super::files::{self, Files, disk_bytes};
use super::locks::{self, Held, Lock};
use crate::format::layout::TEMPORARY;

/// A temporary file older than this is abandoned, even if its process number is in use again.
const STALE_SECONDS: i64 = 3600;
/// The lock of the process that evicts.
const LOCK: &str = "evict";
/// How long to wait for that process, and after what silence it is taken for stuck.
const WAIT_MAX: Duration = Duration::from_secs(30);
const STUCK_AFTER: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// Wakes the evictor thread, which ends when this is dropped.
#[derive(Debug)]
pub struct Evictor {
    wake: SyncSender<()>,
    budget: Arc<Budget>,
}

/// The bytes that may be written before the next scan.
#[derive(Debug)]
struct Budget {
    limit: u64,
    left: AtomicU64,
}

impl Evictor {
    /// Starts the thread, which scans at once.
    pub fn start(files: Files, limit: u64) -> Self {
        let (wake, woken) = sync_channel(1);
        let budget = Arc::new(Budget { limit, left: AtomicU64::new(limit / 8) });
        let its = Arc::clone(&budget);
        // Without a thread there is no eviction; everything else works.
        let _ = std::thread::Builder::new().name("hfl-evict".into()).spawn(move || run(&files, &its, &woken));
        let _ = wake.try_send(());
        Self { wake, budget }
    }

    /// Records that `bytes` were written.
    pub fn wrote(&self, bytes: u64) {
        let left =
            self.budget.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |l| Some(l.saturating_sub(bytes)));
        if left.is_ok_and(|left| left <= bytes) {
            let _ = self.wake.try_send(());
        }
    }
}

fn run(files: &Files, budget: &Budget, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        let lock = lock(files);
        let held = match &lock {
            Turn::Taken => budget.limit,
            Turn::Own(held) => evict(files, budget.limit, held.as_ref()).unwrap_or(0),
        };
        // Other processes may write too: scan again after an eighth of the limit at the latest.
        let free = budget.limit.saturating_sub(held);
        budget.left.store(free.min(budget.limit / 8).max(1), Ordering::Relaxed);
    }
}

/// Whose turn it is to evict.
enum Turn {
    /// This process's, with a lock if there are any.
    Own(Option<Held>),
    /// That of another process, which is still at work.
    Taken,
}

/// Waits for the process that evicts; one that is stuck loses its turn.
fn lock(files: &Files) -> Turn {
    let started = Instant::now();
    loop {
        match locks::take(files, LOCK) {
            Lock::Mine(held) => return Turn::Own(Some(held)),
            Lock::None => return Turn::Own(None),
            Lock::Theirs(silent) if silent > STUCK_AFTER => locks::abandon(files, LOCK),
            Lock::Theirs(_) if started.elapsed() > WAIT_MAX => return Turn::Taken,
            Lock::Theirs(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Shrinks the cache somewhat below `limit` if it is above; returns the bytes left.
fn evict(files: &Files, limit: u64, lock: Option<&Held>) -> io::Result<u64> {
    let beat = || lock.into_iter().for_each(Held::beat);
    sweep(files);
    let mut ages = Ages::default();
    each_file(files, beat, |_, _, stat| ages.add(stat));
    let held = ages.total();
    if held <= limit {
        return Ok(held);
    }
    let (cutoff, mut of_cutoff) = ages.up_to(held - (limit - limit / 16));
    let mut left = held;
    each_file(files, beat, |directory, name, stat| {
        let goes = minute(stat) < cutoff || (minute(stat) == cutoff && of_cutoff > 0);
        if goes && fs::unlinkat(directory, name, AtFlags::empty()).is_ok() {
            let bytes = disk_bytes(stat.st_size as u64);
            left = left.saturating_sub(bytes);
            if minute(stat) == cutoff {
                of_cutoff = of_cutoff.saturating_sub(bytes);
            }
        }
    });
    Ok(left)
}

/// Size of files on disk, in bytes, by minute of last use.
#[derive(Debug, Default)]
struct Ages(BTreeMap<i64, u64>);

impl Ages {
    fn add(&mut self, stat: &Stat) {
        *self.0.entry(minute(stat)).or_default() += disk_bytes(stat.st_size as u64);
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// To free `bytes`: the minute before which all files go, and how many bytes of files of that minute.
    fn up_to(&self, bytes: u64) -> (i64, u64) {
        let mut missing = bytes;
        for (&minute, &held) in &self.0 {
            if held >= missing {
                return (minute, missing);
            }
            missing -= held;
        }
        (i64::MAX, 0)
    }
}

fn minute(stat: &Stat) -> i64 {
    stat.st_mtime / 60
}

/// Calls `show` for each regular file below `blocks/`, with the handle of its directory.
fn each_file(files: &Files, beat: impl Fn(), mut show: impl FnMut(&OwnedFd, &std::ffi::CStr, &Stat)) {
    for prefix in 0..=u8::MAX {
        beat();
        let Ok(directory) = open_directory(files, &format!("blocks/{prefix:02x}")) else { continue };
        each_in(&directory, |name, stat| show(&directory, name, stat));
    }
}

fn each_in(directory: &OwnedFd, mut show: impl FnMut(&std::ffi::CStr, &Stat)) {
    let Ok(entries) = Dir::read_from(directory) else { return };
    for entry in entries.flatten() {
        let Ok(stat) = fs::statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if FileType::from_raw_mode(stat.st_mode).is_file() {
            show(entry.file_name(), &stat);
        }
    }
}

fn open_directory(files: &Files, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(files.base(), path, flags, Mode::empty())
}

/// Removes temporary files of processes that died while writing. Processes of another machine or container that share
/// the directory are not visible here: a file one of them is writing may be removed too, and is then not cached.
fn sweep(files: &Files) {
    let Ok(directory) = open_directory(files, TEMPORARY) else { return };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    each_in(&directory, |name, stat| {
        if now - stat.st_mtime > STALE_SECONDS || !files::writer_lives(name) {
            let _ = fs::unlinkat(&directory, name, AtFlags::empty());
        }
    });
}
