//! Carries out what [`Readahead`] decides: fetches blocks before they are read, a few at a time.
//!
//! A read that somebody waits for never queues here; it only shares the machine with what is under way.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::image::Image;
use super::readahead::Readahead;

/// How many extents are looked at to find the end of a window: enough for any window, few enough for any read.
const EXTENTS_MAX: usize = 4096;

/// The fetcher of one image.
#[derive(Debug)]
pub struct Prefetch {
    image: Arc<Image>,
    readahead: Mutex<Readahead>,
    permits: Arc<Semaphore>,
    runtime: Handle,
    blocks_max: usize,
}

impl Prefetch {
    /// Fetches for `image` on `runtime`, `jobs` blocks at a time, never more than `window_bytes` ahead of a stream.
    pub fn new(image: Arc<Image>, runtime: Handle, jobs: usize, window_bytes: u64) -> Self {
        let readahead = Mutex::new(Readahead::new(window_bytes));
        Self { image, readahead, permits: Arc::new(Semaphore::new(jobs)), runtime, blocks_max: 8 * jobs }
    }

    /// Takes note of a read, and fetches ahead of it where it belongs to a stream.
    pub fn read(&self, range: &Range<u64>) {
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
        let (image, permits) = (Arc::clone(&self.image), Arc::clone(&self.permits));
        self.runtime.spawn(async move {
            let _permit = permits.acquire().await;
            if !image.holds(block) {
                image.prefetch(block).await;
            }
        });
    }
}
