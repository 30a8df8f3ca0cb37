//! Writes the files of the disk cache on a thread of its own, so that decoding never waits for a disk.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::evict::Evictor;
use super::files::Files;
use super::locks::Held;
use crate::client::notice::{Notice, Observer};
use crate::format::digest::BlockId;

/// Bytes of files that may be queued, or one file.
const WAITING_MAX_BYTES: u32 = 1 << 20;
/// How long a block waits for room in the queue. A disk that takes longer gets only blocks that fit at once, until it
/// has written one.
const PATIENCE: Duration = Duration::from_millis(200);

/// What the thread does.
#[derive(Debug)]
enum Job {
    /// Writes a file, which has its share of the room; who waits for the lock of its block finds it then.
    Write(BlockId, Bytes, OwnedSemaphorePermit, Option<Turn>),
    /// Marks the holder of a lock as alive.
    Beat(Arc<Held>),
    /// Releases the lock of a block.
    Release(Arc<Held>),
}

/// The lock of a block that is being fetched. Whoever drops it does not wait for the disk.
#[derive(Debug)]
pub struct Turn {
    held: Arc<Held>,
    jobs: Sender<Job>,
}

impl Turn {
    /// Marks the fetch as going on.
    pub fn beat(&self) {
        let _ = self.jobs.send(Job::Beat(Arc::clone(&self.held)));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = self.jobs.send(Job::Release(Arc::clone(&self.held)));
    }
}

/// The write queue; its thread ends when this is dropped.
#[derive(Debug)]
pub struct Writer {
    jobs: Sender<Job>,
    room: Arc<Semaphore>,
    stalled: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
}

impl Writer {
    /// Starts the thread; if that fails, nothing is cached.
    pub fn start(files: Files, evictor: Evictor, observer: Arc<dyn Observer>) -> Self {
        let (jobs, taken) = channel();
        let room = Arc::new(Semaphore::new(WAITING_MAX_BYTES as usize));
        let (stalled, failed) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let its = [Arc::clone(&stalled), Arc::clone(&failed)];
        let thread = std::thread::Builder::new().name("hfl-keep".into());
        let _ = thread.spawn(move || run(&files, &evictor, &*observer, &taken, &its));
        Self { jobs, room, stalled, failed }
    }

    /// Queues a block's file, unless there is no room for it soon. Its lock is released when it is there.
    pub async fn keep(&self, id: BlockId, file: Bytes, turn: Option<Turn>) {
        let bytes = u32::try_from(file.len()).unwrap_or(u32::MAX).min(WAITING_MAX_BYTES);
        if let Some(room) = self.room_for(bytes).await {
            let _ = self.jobs.send(Job::Write(id, file, room, turn));
        }
    }

    /// Whether files are written, as far as is known: others may wait for them.
    pub fn works(&self) -> bool {
        !self.stalled.load(Relaxed) && !self.failed.load(Relaxed)
    }

    /// Makes a lock one of a block that is being fetched.
    pub fn turn(&self, held: Held) -> Turn {
        Turn { held: Arc::new(held), jobs: self.jobs.clone() }
    }

    async fn room_for(&self, bytes: u32) -> Option<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.room);
        if self.stalled.load(Relaxed) {
            return room.try_acquire_many_owned(bytes).ok();
        }
        let found = tokio::time::timeout(PATIENCE, room.acquire_many_owned(bytes)).await.ok().and_then(Result::ok);
        self.stalled.store(found.is_none(), Relaxed);
        found
    }

    /// Waits until everything queued is written, for at most `patience`.
    pub async fn settle(&self, patience: Duration) {
        let _ = tokio::time::timeout(patience, self.room.acquire_many(WAITING_MAX_BYTES)).await;
    }
}

fn run(
    files: &Files,
    evictor: &Evictor,
    observer: &dyn Observer,
    taken: &Receiver<Job>,
    [stalled, failed]: &[Arc<AtomicBool>; 2],
) {
    while let Ok(job) = taken.recv() {
        let (id, file, _room, turn) = match job {
            Job::Write(id, file, room, turn) => (id, file, room, turn),
            Job::Beat(held) => {
                held.beat();
                continue;
            }
            Job::Release(held) => {
                held.release();
                continue;
            }
        };
        let written = files.write(&id, &file);
        if let Some(turn) = turn {
            turn.held.release();
        }
        failed.store(written.is_err(), Relaxed);
        match written {
            Ok(written) => evictor.wrote(written),
            Err(e) => observer.notice(Notice::CacheUnusable { why: e.to_string() }),
        }
        stalled.store(false, Relaxed);
    }
}
