//! The RAM cache: decoded blocks, the least recently read go first, and those last that somebody is about to read.
//!
//! What is fetched ahead is older than what is read meanwhile, and yet the one that is worth keeping: a machine that boots
//! comes back to what it has read, and would drive out what it reads next.
//!
//! One lock, held for a look-up at most: asking costs a fraction of what the kernel takes to bring the question.

use std::collections::hash_map::DefaultHasher;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::lru::Lru;
use crate::format::block::Block;
use crate::format::digest::Sha256;
use crate::format::index::BlockRow;
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

/// The part of the memory that blocks may take which somebody is about to read.
const EXPECTED_PART: usize = 2;

/// Decoded blocks in RAM.
#[derive(Debug)]
pub struct MemoryCache(Mutex<Held>);

#[derive(Debug)]
struct Held {
    read: Blocks<Arc<Block>>,
    /// Those that were fetched ahead and not read yet, and what had been kept when they were.
    expected: Blocks<(Arc<Block>, u64)>,
    limit: usize,
    /// Bytes of all blocks that were ever kept.
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

    /// Holds it as the one that was read last; what was held by this key.
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

    /// Nobody has come for the one that was expected first: it is one like others from now on.
    fn give_up(&mut self) -> bool {
        let Some((key, (block, _))) = self.expected.pop_oldest() else { return false };
        self.was_read(key, block);
        true
    }

    /// Keeps a block; what had to go.
    fn keep(&mut self, key: Sha256, block: Arc<Block>) -> Vec<Arc<Block>> {
        self.kept += block.len() as u64;
        let again = self.expected.remove(&key).map(|(block, _)| block);
        let mut gone: Vec<_> = self.was_read(key, block).into_iter().chain(again).collect();
        // As much was kept since as there is room for.
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
    /// An empty cache for `limit` bytes of blocks; the newest block is held in any case.
    pub fn new(limit: usize) -> Self {
        Self(Mutex::new(Held { read: Lru::new(), expected: Lru::new(), limit, kept: 0, hits: 0 }))
    }

    /// The block of `row`, if it is here.
    pub fn get(&self, row: &BlockRow) -> Option<Arc<Block>> {
        let mut held = self.lock();
        let block = held.get(&row.sha256);
        held.hits += u64::from(block.is_some());
        block
    }

    /// Whether the block of `row` is here; this does not count as reading it.
    pub fn contains(&self, row: &BlockRow) -> bool {
        let held = self.lock();
        held.read.contains(&row.sha256) || held.expected.contains(&row.sha256)
    }

    /// The most bytes of blocks that stay because somebody is about to read them.
    pub fn expected_max_bytes(&self) -> usize {
        self.lock().expected_max_bytes()
    }

    /// Somebody is about to read the block of `row`: as long as [`MemoryCache::expected_max_bytes`] is enough for all such,
    /// it stays until then, or until as much was kept besides as there is room for.
    pub fn expect(&self, row: &BlockRow) {
        self.lock().expect(&row.sha256);
    }

    /// Keeps a block.
    pub fn keep(&self, row: &BlockRow, block: Arc<Block>) {
        let gone = self.lock().keep(row.sha256, block);
        // Blocks are freed here, when nobody waits for the lock any more.
        drop(gone);
    }

    /// How often a block was here, and the bytes of those that are.
    pub fn counts(&self) -> (u64, u64) {
        let held = self.lock();
        (held.hits, (held.read.bytes() + held.expected.bytes()) as u64)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source with the RAM cache in front.
#[derive(Debug)]
pub struct MemoryCached<S> {
    cache: Arc<MemoryCache>,
    inner: S,
}

impl<S> MemoryCached<S> {
    /// `inner`, asked only for what `cache` does not hold.
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
