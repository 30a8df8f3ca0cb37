//! Readahead: fetches the blocks that [`ReadaheadWindow`] selects, a few at a time.
//!
//! A demand read never queues here; it only shares the machine and the network with prefetch. The number of concurrent
//! fetches adapts to how long they take: on a slow link, many at once would all arrive late and delay demand reads.
//! Their memory is limited as well.

pub mod profile;
pub mod record;
pub mod scheduler;
pub mod window;

use std::ops::Range;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::image::Image;
use crate::format::block::BlockRow;
use window::ReadaheadWindow;

/// Extents examined to find the end of a window: enough for any window, few enough for any read.
const EXTENTS_MAX: usize = 4096;
/// Concurrent fetches before the network has been measured.
const JOBS_AT_FIRST: usize = 8;
/// One part in this many of a window may be in flight.
pub const UNDER_WAY_PART: u64 = 2;
/// Upper limit of the memory for fetches in flight.
const ROOM_MAX_BYTES: u32 = 256 << 20;

/// The readahead of one image.
#[derive(Debug)]
pub struct Prefetch {
    image: Arc<Image>,
    readahead: Mutex<ReadaheadWindow>,
    jobs: Arc<Jobs>,
    room: Arc<Room>,
    runtime: Handle,
    blocks_max: usize,
}

/// The memory for fetches in flight, in bytes.
#[derive(Debug)]
struct Room {
    bytes: u32,
    left: Semaphore,
}

impl Room {
    fn new(bytes: u64) -> Self {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, ROOM_MAX_BYTES);
        Self { bytes, left: Semaphore::new(bytes as usize) }
    }

    /// Reserves room for a block and its compressed file; a block larger than the whole room takes all of it.
    async fn take(&self, row: &BlockRow) -> Option<SemaphorePermit<'_>> {
        let bytes = row.bytes.saturating_add(row.zlib_bytes);
        self.left.acquire_many(bytes.min(self.bytes)).await.ok()
    }
}

/// Limits concurrent fetches: one more after each fast fetch, one less after each slow one.
#[derive(Debug)]
struct Jobs {
    permits: Semaphore,
    allowed: AtomicUsize,
    most: usize,
    slow: Duration,
}

impl Jobs {
    fn new(most: usize, slow: Duration) -> Self {
        let first = JOBS_AT_FIRST.min(most);
        Self { permits: Semaphore::new(first), allowed: AtomicUsize::new(first), most, slow }
    }

    /// Waits for a permit, then runs a fetch; the fetch returns whether it fetched anything.
    async fn run(&self, fetch: impl Future<Output = bool>) {
        let Ok(permit) = self.permits.acquire().await else { return };
        let started = Instant::now();
        let fetched = fetch.await;
        let took = started.elapsed();
        let less = |allowed: usize| (allowed > 1).then(|| allowed - 1);
        let more = |allowed: usize| (allowed < self.most).then(|| allowed + 1);
        if took > self.slow && self.allowed.fetch_update(Relaxed, Relaxed, less).is_ok() {
            permit.forget();
        } else if fetched && took < self.slow / 2 && self.allowed.fetch_update(Relaxed, Relaxed, more).is_ok() {
            self.permits.add_permits(1);
        }
    }
}

impl Prefetch {
    /// Prefetches for `image` on `runtime`: up to `jobs` blocks at a time as long as none takes longer than `slow`, and
    /// never more than `window_bytes` ahead of a stream. Fetches in flight take at most half of that in memory.
    pub fn new(image: Arc<Image>, runtime: Handle, jobs: usize, slow: Duration, window_bytes: u64) -> Self {
        let readahead = Mutex::new(ReadaheadWindow::new(window_bytes));
        let (blocks_max, room) = (8 * jobs, Arc::new(Room::new(window_bytes / UNDER_WAY_PART)));
        Self { image, readahead, jobs: Arc::new(Jobs::new(jobs, slow)), room, runtime, blocks_max }
    }

    /// Records a read, and reads ahead if it belongs to a stream that no profile covers.
    pub fn read(&self, range: &Range<u64>) {
        if self.image.is_followed(range) {
            return;
        }
        let map = self.image.map();
        let advance = |from, bytes| map.advance(from, bytes, EXTENTS_MAX);
        let ahead = self.readahead.lock().unwrap_or_else(PoisonError::into_inner).read(range, advance);
        let Some(ahead) = ahead else { return };
        for block in map.blocks(ahead, self.blocks_max) {
            if !self.image.holds(block) {
                self.fetch(block);
            }
        }
    }

    fn fetch(&self, block: u32) {
        let (image, jobs, room) = (Arc::clone(&self.image), Arc::clone(&self.jobs), Arc::clone(&self.room));
        self.runtime.spawn(async move {
            let Some(_room) = room.take(image.map().row(block)).await else { return };
            jobs.run(async { !image.holds(block) && image.prefetch(block).await }).await;
        });
    }
}
