//! Reads of an image: gathers bytes from blocks and holes, with at most one copy.
//!
//! What the memory cache holds is answered at once ([`Image::cached`]). Other reads wait for their blocks
//! ([`Image::read`]), which are fetched in parallel.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::extent_map::{ExtentMap, Segment};
use super::prefetch::record::FirstReads;
use super::source::memory_cache::MemoryCache;
use crate::format::block::Block;
use crate::repo::{BlockSource, ReadError};

/// The largest read, in bytes: more than the kernel requests at once.
pub const READ_MAX_BYTES: usize = 1 << 20;
/// The content of holes.
static ZEROS: [u8; READ_MAX_BYTES] = [0; READ_MAX_BYTES];

#[derive(Debug)]
enum Part {
    Zeros(usize),
    Bytes(Arc<Block>, Range<usize>),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Part::Zeros(bytes) => &ZEROS[..*bytes],
            Part::Bytes(block, range) => &block[range.clone()],
        }
    }
}

/// The bytes of a read, still in their blocks.
#[derive(Debug)]
pub struct Data(Vec<Part>);

impl Data {
    /// Passes the bytes to `take` as one slice.
    pub fn with<R>(&self, take: impl FnOnce(&[u8]) -> R) -> R {
        match &self.0[..] {
            [] => take(&[]),
            [part] => take(part.bytes()),
            // No buffer per thread: there are many threads, and each buffer would grow to the largest read.
            parts => take(&parts.iter().map(Part::bytes).collect::<Vec<_>>().concat()),
        }
    }
}

/// An image that can be read at any offset.
#[derive(Debug)]
pub struct Image {
    map: ExtentMap,
    cache: Arc<MemoryCache>,
    source: Arc<dyn BlockSource>,
    reads: Option<Arc<FirstReads>>,
    ahead: Arc<dyn BlockSource>,
    /// One bit for each block in the profile.
    profiled: OnceLock<Box<[u64]>>,
}

impl Image {
    /// Creates the image laid out by `map`; `cache` is the one that `source` fills.
    pub fn new(map: ExtentMap, cache: Arc<MemoryCache>, source: Arc<dyn BlockSource>) -> Self {
        Self { map, cache, ahead: Arc::clone(&source), source, reads: None, profiled: OnceLock::new() }
    }

    /// Records reads in `reads`.
    pub fn noting(self, reads: Arc<FirstReads>) -> Self {
        Self { reads: Some(reads), ..self }
    }

    /// Prefetches through `ahead`, which fills the same cache.
    pub fn fetching_ahead(self, ahead: Arc<dyn BlockSource>) -> Self {
        Self { ahead, ..self }
    }

    /// The extent map.
    pub fn map(&self) -> &ExtentMap {
        &self.map
    }

    /// The range of a read of `bytes` at `offset`: cut at the end of the image, and to [`READ_MAX_BYTES`].
    pub fn range(&self, offset: u64, bytes: usize) -> Range<u64> {
        self.map.clip(offset, bytes.min(READ_MAX_BYTES) as u64)
    }

    /// The bytes of `range`, if all of its blocks are in RAM. Never waits.
    pub fn cached(&self, range: Range<u64>) -> Option<Data> {
        self.note(&range);
        let mut last: Option<(u32, Arc<Block>)> = None;
        self.gather(range, |wanted| {
            if last.as_ref().is_none_or(|(held, _)| *held != wanted) {
                last = Some((wanted, self.cache.get(self.map.row(wanted))?));
            }
            last.as_ref().map(|(_, block)| Arc::clone(block))
        })
    }

    /// Reads the bytes of `range`.
    ///
    /// # Errors
    /// No source has one of the blocks.
    pub async fn read(&self, range: Range<u64>) -> Result<Data, ReadError> {
        self.note(&range);
        let wanted = self.map.blocks(range.clone(), usize::MAX);
        let blocks = self.fetch_all(&wanted).await?;
        let block_of = |block: u32| wanted.iter().rposition(|&w| w == block).map(|i| Arc::clone(&blocks[i]));
        Ok(self.gather(range, block_of).unwrap_or(Data(Vec::new())))
    }

    /// Prefetches a block into the caches; returns whether that worked. The error is left to a later read.
    pub async fn prefetch(&self, block: u32) -> bool {
        let row = self.map.row(block);
        let came = self.ahead.block(row).await.is_ok();
        self.cache.expect(row);
        came
    }

    /// Fetches a block into the caches.
    ///
    /// # Errors
    /// No source has the block.
    pub async fn fetch(&self, block: u32) -> Result<(), ReadError> {
        self.source.block(self.map.row(block)).await.map(|_| ())
    }

    /// The most bytes of prefetched blocks that stay in RAM until they are read.
    pub fn expected_max_bytes(&self) -> u64 {
        self.cache.expected_max_bytes() as u64
    }

    /// Whether a block is in RAM.
    pub fn holds(&self, block: u32) -> bool {
        self.cache.contains(self.map.row(block))
    }

    /// Sets the blocks of the profile, which are prefetched in its order from now on.
    pub fn follow(&self, blocks: &[u32]) {
        let mut bits = vec![0; self.map.block_count().div_ceil(64)];
        blocks.iter().for_each(|&block| bits[block as usize / 64] |= 1 << (block % 64));
        let _ = self.profiled.set(bits.into());
    }

    /// Whether all blocks of `range` are in the profile, which predicts reads better than readahead.
    pub fn is_followed(&self, range: &Range<u64>) -> bool {
        let Some(bits) = self.profiled.get() else { return false };
        let named = |block: &u32| bits[*block as usize / 64] & 1 << (block % 64) != 0;
        self.map.blocks(range.clone(), usize::MAX).iter().all(named)
    }

    fn note(&self, range: &Range<u64>) {
        if let Some(reads) = &self.reads {
            reads.note(&self.map, range.clone());
        }
    }

    fn gather(&self, range: Range<u64>, mut block_of: impl FnMut(u32) -> Option<Arc<Block>>) -> Option<Data> {
        let parts = self.map.segments(range).map(|segment| match segment {
            Segment::Hole { bytes } => Some(Part::Zeros(bytes)),
            Segment::Block { block, start, bytes } => Some(Part::Bytes(block_of(block)?, start..start + bytes)),
        });
        parts.collect::<Option<Vec<Part>>>().map(Data)
    }

    /// Returns the blocks in order; missing ones are fetched in parallel.
    async fn fetch_all(&self, wanted: &[u32]) -> Result<Vec<Arc<Block>>, ReadError> {
        if let [only] = wanted {
            return Ok(vec![self.source.block(self.map.row(*only)).await?]);
        }
        let fetch = |&block: &u32| {
            let (source, row) = (Arc::clone(&self.source), *self.map.row(block));
            match self.cache.get(&row) {
                Some(block) => Fetch::Done(block),
                None => Fetch::Pending(tokio::spawn(async move { source.block(&row).await })),
            }
        };
        let fetches: Vec<Fetch> = wanted.iter().map(fetch).collect();
        let mut blocks = Vec::with_capacity(wanted.len());
        for fetch in fetches {
            blocks.push(fetch.block().await?);
        }
        Ok(blocks)
    }
}

enum Fetch {
    Done(Arc<Block>),
    Pending(tokio::task::JoinHandle<Result<Arc<Block>, ReadError>>),
}

impl Fetch {
    async fn block(self) -> Result<Arc<Block>, ReadError> {
        match self {
            Fetch::Done(block) => Ok(block),
            Fetch::Pending(task) => match task.await {
                Ok(block) => block,
                Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
                Err(_) => Err(ReadError::no_source()),
            },
        }
    }
}
