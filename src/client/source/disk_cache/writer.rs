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
use crate::client::notice::{Notice, Observer};
use crate::format::digest::BlockId;

/// Bytes of files that may be queued, or one file.
const WAITING_MAX_BYTES: u32 = 1 << 20;
/// How long a block waits for room in the queue. A disk that takes longer gets only blocks that fit at once, until it
/// has written one.
const PATIENCE: Duration = Duration::from_millis(200);

/// A queued file, and its share of the room.
type Job = (BlockId, Bytes, OwnedSemaphorePermit);

/// The write queue; its thread ends when this is dropped.
#[derive(Debug)]
pub struct Writer {
    jobs: Sender<Job>,
    room: Arc<Semaphore>,
    stalled: Arc<AtomicBool>,
}

impl Writer {
    /// Starts the thread; if that fails, nothing is cached.
    pub fn start(files: Files, evictor: Evictor, observer: Arc<dyn Observer>) -> Self {
        let (jobs, taken) = channel();
        let room = Arc::new(Semaphore::new(WAITING_MAX_BYTES as usize));
        let stalled = Arc::new(AtomicBool::new(false));
        let its = Arc::clone(&stalled);
        let thread = std::thread::Builder::new().name("hfl-keep".into());
        let _ = thread.spawn(move || run(&files, &evictor, &*observer, &taken, &its));
        Self { jobs, room, stalled }
    }

    /// Queues a block's file, unless there is no room for it soon.
    pub async fn keep(&self, id: BlockId, file: Bytes) {
        let bytes = u32::try_from(file.len()).unwrap_or(u32::MAX).min(WAITING_MAX_BYTES);
        if let Some(room) = self.room_for(bytes).await {
            let _ = self.jobs.send((id, file, room));
        }
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

fn run(files: &Files, evictor: &Evictor, observer: &dyn Observer, taken: &Receiver<Job>, stalled: &AtomicBool) {
    while let Ok((id, file, _room)) = taken.recv() {
        match files.write(&id, &file) {
            Ok(written) => evictor.wrote(written),
            Err(e) => observer.notice(Notice::CacheUnusable { why: e.to_string() }),
        }
        stalled.store(false, Relaxed);
    }
}
