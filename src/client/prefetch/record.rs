//! Records which blocks of an image are read first, in which order and when: the content of a profile.
//!
//! It sits in front of all caches and records reads only, not prefetch. Repeated reads cost one bit test per block.

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

/// Interval between writes of a growing record.
const WRITE_PAUSE: Duration = Duration::from_secs(10);

/// The first read of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// Index of the block in [`Index::blocks`].
    pub block: u32,
    /// Time since the recording began, in milliseconds.
    pub ms: u64,
    /// Offset in the image at which that read touched the block, in bytes.
    pub offset: u64,
}

/// The first reads of the blocks of one image.
#[derive(Debug)]
pub struct FirstReads {
    since: Instant,
    /// One bit for each block that was read.
    read: Box<[AtomicU64]>,
    noted: Mutex<Vec<Noted>>,
    news: Notify,
}

impl FirstReads {
    /// An empty record for an image of `blocks` blocks; time starts now.
    pub fn new(blocks: usize) -> Arc<Self> {
        let read = std::iter::repeat_with(AtomicU64::default).take(blocks.div_ceil(64)).collect();
        Arc::new(Self { since: Instant::now(), read, noted: Mutex::default(), news: Notify::new() })
    }

    /// Records a read of `range`.
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
            // Under the lock, so that times never decrease.
            let ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(MS_MAX).min(MS_MAX);
            noted.push(Noted { block, ms, offset });
        }
        drop(noted);
        self.news.notify_one();
    }

    /// Whether the block was read.
    pub fn has(&self, block: u32) -> bool {
        self.read.get(block as usize / 64).is_some_and(|word| word.load(Relaxed) & 1 << (block % 64) != 0)
    }

    /// The first reads after the first `known`.
    pub fn after(&self, known: usize) -> Vec<Noted> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.get(known..).unwrap_or_default().to_vec()
    }

    /// Waits for a first read since the last call; for one caller.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// Returns the reads so far as a profile of `index`.
    ///
    /// # Errors
    /// None for the image's own index.
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

/// A file that a profile is recorded to; its path is not opened again after the start.
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
    /// The file cannot be written.
    pub fn start(reads: Arc<FirstReads>, index: Arc<Index>, path: &Path) -> io::Result<Arc<Self>> {
        check_output(path)?;
        let recording = Self { reads, index, place: Place::open(path)?, written: AtomicUsize::new(usize::MAX) };
        recording.write()?;
        Ok(Arc::new(recording))
    }

    /// Replaces the file atomically if there are new reads. Blocks the thread.
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

    /// Writes the file every few seconds, so that it survives a power-off; `failed` is called with each error. Runs
    /// until dropped.
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
