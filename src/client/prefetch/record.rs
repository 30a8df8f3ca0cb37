//! Notes which blocks an image's readers want first, in which order and when: what a profile is made of.
//!
//! It sits in front of all caches and hears of reads alone: what is fetched in advance is not wanted by anybody yet. A
//! read of blocks that were read before costs one look at a bit for each.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::client::extent_map::{ExtentMap, Segment};
use crate::format::index::Index;
use crate::format::profile::{BLOCKS_MAX, FirstRead, MS_MAX, Profile};
use crate::system::atomic_file::{Place, check_output};

/// How often a record is written while it grows.
const WRITE_PAUSE: Duration = Duration::from_secs(10);

/// The first read of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// The block's place in [`Index::blocks`].
    pub block: u32,
    /// When, in milliseconds.
    pub ms: u64,
    /// The first byte of the image that was read of it then.
    pub offset: u64,
}

/// The first reads of the blocks of one image.
#[derive(Debug)]
pub struct FirstReads {
    since: Instant,
    /// A bit for each block that was read.
    read: Box<[AtomicU64]>,
    noted: Mutex<Vec<Noted>>,
    news: Notify,
}

impl FirstReads {
    /// Nothing was read yet of an image of `blocks` blocks; time begins now.
    pub fn new(blocks: usize) -> Arc<Self> {
        let read = std::iter::repeat_with(AtomicU64::default).take(blocks.div_ceil(64)).collect();
        Arc::new(Self { since: Instant::now(), read, noted: Mutex::default(), news: Notify::new() })
    }

    /// Takes note of a read of `range`.
    pub fn note(&self, map: &ExtentMap, range: Range<u64>) {
        let mut offset = range.start;
        for segment in map.segments(range) {
            offset += match segment {
                Segment::Hole { bytes } => bytes as u64,
                Segment::Block { block, bytes, .. } => {
                    if !self.has(block) {
                        self.add(block, offset);
                    }
                    bytes as u64
                }
            };
        }
    }

    fn add(&self, block: u32, offset: u64) {
        let bit = 1 << (block % 64);
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.read.get(block as usize / 64).map_or(bit, |word| word.fetch_or(bit, Relaxed));
        if before & bit == 0 && (noted.len() as u64) < BLOCKS_MAX {
            // Under the lock, so that times never fall.
            let ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(MS_MAX).min(MS_MAX);
            noted.push(Noted { block, ms, offset });
        }
        drop(noted);
        self.news.notify_one();
    }

    /// Whether a block was read.
    pub fn has(&self, block: u32) -> bool {
        self.read.get(block as usize / 64).is_some_and(|word| word.load(Relaxed) & 1 << (block % 64) != 0)
    }

    /// What was noted after the first `known` reads.
    pub fn after(&self, known: usize) -> Vec<Noted> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.get(known..).unwrap_or_default().to_vec()
    }

    /// Returns when something was noted since the last call; for one caller.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// What was read so far, as a profile of `index`.
    ///
    /// # Errors
    /// None that can happen to an image's own index.
    pub fn profile(&self, index: &Index) -> io::Result<Profile> {
        let row = |noted: Noted| {
            let id = index.blocks().get(noted.block as usize)?.id;
            Some(FirstRead { id, ms: noted.ms, offset: noted.offset })
        };
        let reads = self.after(0).into_iter().filter_map(row).collect();
        let header = index.header();
        Profile::new(header.image.clone(), header.version, reads).map_err(io::Error::other)
    }
}

/// A file that a profile is recorded to; nothing is opened by its path once that has begun.
#[derive(Debug)]
pub struct Recording {
    reads: Arc<FirstReads>,
    index: Arc<Index>,
    place: Place,
    written: AtomicUsize,
}

impl Recording {
    /// Records `reads` of the image of `index` to the file at `path`, which is written at once.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn start(reads: Arc<FirstReads>, index: Arc<Index>, path: &Path) -> io::Result<Arc<Self>> {
        check_output(path)?;
        let recording = Self { reads, index, place: Place::open(path)?, written: AtomicUsize::new(usize::MAX) };
        recording.write()?;
        Ok(Arc::new(recording))
    }

    /// Writes the file if there is something new; whoever looks finds the old one or the new one, whole. Blocks the
    /// thread.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self) -> io::Result<()> {
        let profile = self.reads.profile(&self.index)?;
        let reads = profile.reads().len();
        if self.written.load(Relaxed) != reads {
            self.place.replace(&profile.to_bytes())?;
            self.written.store(reads, Relaxed);
        }
        Ok(())
    }

    /// Writes it every few seconds, so that a machine that is switched off has one; `failed` hears why it could not be
    /// written. Ends with whoever waits for it.
    pub async fn keep_writing(self: Arc<Self>, failed: impl Fn(io::Error)) {
        loop {
            tokio::time::sleep(WRITE_PAUSE).await;
            let recording = Arc::clone(&self);
            if let Ok(Err(e)) = tokio::task::spawn_blocking(move || recording.write()).await {
                failed(e);
            }
        }
    }
}
