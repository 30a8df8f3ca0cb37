//! The memory cache: decoded blocks in LRU order; expected blocks, prefetched and not yet read, are evicted last.
//!
//! A prefetched block is older than blocks read meanwhile, yet more useful. A booting machine re-reads what it has
//! read, which would otherwise evict what it reads next.
//!
//! One lock, held for a lookup at most: a fraction of the cost of the kernel's request.

use std::collections::hash_map::DefaultHasher;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::lru::Lru;
use crate::format::block::Block;
use crate::format::block::BlockRow;
use crate::format::digest::Sha256;
use crate::repo::{BlockSource, Fetched, ReadError};

/// A digest needs no hashing: its first bytes are as good as random.
#[derive(Debug, Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        match bytes.first_chunk() {
            Some(first) => self.0 ^= u64::from_ne_bytes(*first),
            None => {
                let mut hasher = DefaultHasher::new();
                hasher.write(bytes);
                self.0 ^= hasher.finish();
            }
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

type Blocks<V> = Lru<Sha256, V, BuildHasherDefault<DigestHasher>>;

/// One part in this many of the memory may hold expected blocks.
const EXPECTED_PART: usize = 2;

/// Decoded blocks in RAM.
#[derive(Debug)]
pub struct MemoryCache(Mutex<Held>);

#[derive(Debug)]
struct Held {
    read: Blocks<Arc<Block>>,
    /// Expected blocks, each with the value of `kept` when it was fetched.
    expected: Blocks<(Arc<Block>, u64)>,
    limit: usize,
    /// Total bytes of all blocks ever cached.
    kept: u64,
    hits: u64,
}

impl Held {
    fn get(&mut self, key: &Sha256) -> Option<Arc<Block>> {
        if let Some((block, _)) = self.expected.remove(key) {
            self.was_read(*key, block);
        }
        self.read.get(key).cloned()
    }

    /// Caches the block as the most recently read; returns the one it replaces.
    fn was_read(&mut self, key: Sha256, block: Arc<Block>) -> Option<Arc<Block>> {
        let bytes = block.len();
        self.read.insert(key, block, bytes)
    }

    fn expect(&mut self, key: &Sha256) {
        let Some(block) = self.read.remove(key) else { return };
        let bytes = block.len();
        self.expected.insert(*key, (block, self.kept), bytes);
        while self.expected.bytes() > self.expected_max_bytes() && self.give_up() {}
    }

    fn expected_max_bytes(&self) -> usize {
        self.limit / EXPECTED_PART
    }

    /// Moves the oldest expected block to the ordinary ones: it was not read in time.
    fn give_up(&mut self) -> bool {
        let Some((key, (block, _))) = self.expected.pop_oldest() else { return false };
        self.was_read(key, block);
        true
    }

    /// Caches a block; returns the evicted ones.
    fn keep(&mut self, key: Sha256, block: Arc<Block>) -> Vec<Arc<Block>> {
        self.kept += block.len() as u64;
        let again = self.expected.remove(&key).map(|(block, _)| block);
        let mut gone: Vec<_> = self.was_read(key, block).into_iter().chain(again).collect();
        // More than `limit` bytes were cached since.
        let late = self.kept.saturating_sub(self.limit as u64);
        while self.expected.oldest().is_some_and(|(_, (_, since))| *since < late) && self.give_up() {}
        while self.read.bytes() + self.expected.bytes() > self.limit {
            match self.read.len() {
                0 | 1 => match self.expected.pop_oldest() {
                    Some((_, (block, _))) => gone.push(block),
                    None => break,
                },
                _ => gone.extend(self.read.pop_oldest().map(|(_, block)| block)),
            }
        }
        gone
    }
}

impl MemoryCache {
    /// An empty cache for `limit` bytes of blocks; the newest block is always kept.
    pub fn new(limit: usize) -> Self {
        Self(Mutex::new(Held { read: Lru::new(), expected: Lru::new(), limit, kept: 0, hits: 0 }))
    }

    /// Returns the block of `row`, if cached.
    pub fn get(&self, row: &BlockRow) -> Option<Arc<Block>> {
        let mut held = self.lock();
        let block = held.get(&row.sha256);
        held.hits += u64::from(block.is_some());
        block
    }

    /// Whether the block of `row` is cached; this does not count as a read.
    pub fn contains(&self, row: &BlockRow) -> bool {
        let held = self.lock();
        held.read.contains(&row.sha256) || held.expected.contains(&row.sha256)
    }

    /// The most bytes that expected blocks may take.
    pub fn expected_max_bytes(&self) -> usize {
        self.lock().expected_max_bytes()
    }

    /// Marks the block of `row` as expected: it stays until it is read, or until as much as the whole limit was cached
    /// since, provided that all expected blocks fit into [`MemoryCache::expected_max_bytes`].
    pub fn expect(&self, row: &BlockRow) {
        self.lock().expect(&row.sha256);
    }

    /// Caches a block.
    pub fn keep(&self, row: &BlockRow, block: Arc<Block>) {
        let gone = self.lock().keep(row.sha256, block);
        // Evicted blocks are freed here, outside the lock.
        drop(gone);
    }

    /// Number of cache hits, and bytes cached now.
    pub fn counts(&self) -> (u64, u64) {
        let held = self.lock();
        (held.hits, (held.read.bytes() + held.expected.bytes()) as u64)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source behind the memory cache.
#[derive(Debug)]
pub struct MemoryCached<S> {
    cache: Arc<MemoryCache>,
    inner: S,
}

impl<S> MemoryCached<S> {
    /// Reads from `inner` what `cache` does not hold.
    pub fn new(cache: Arc<MemoryCache>, inner: S) -> Self {
        Self { cache, inner }
    }
}

#[async_trait]
impl<S: BlockSource> BlockSource for MemoryCached<S> {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        if let Some(block) = self.cache.get(row) {
            return Ok(block.into());
        }
        let fetched = self.inner.fetch(row).await?;
        self.cache.keep(row, Arc::clone(&fetched.block));
        Ok(fetched)
    }
}
