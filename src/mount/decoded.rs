//! The RAM cache: decoded blocks, the least recently read go first.
//!
//! One lock, held for a look-up at most: asking costs a fraction of what the kernel takes to bring the question.

use std::collections::hash_map::DefaultHasher;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::lru::Lru;
use crate::block::Block;
use crate::digest::Sha256;
use crate::index::BlockRow;
use crate::read::{BlockSource, ReadError};

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

type Blocks = Lru<Sha256, Arc<Block>, BuildHasherDefault<DigestHasher>>;

/// Decoded blocks in RAM.
#[derive(Debug)]
pub struct BlockCache(Mutex<Held>);

#[derive(Debug)]
struct Held {
    blocks: Blocks,
    hits: u64,
}

impl BlockCache {
    /// An empty cache for `limit` bytes of blocks; the newest block is held in any case.
    pub fn new(limit: usize) -> Self {
        Self(Mutex::new(Held { blocks: Lru::new(limit), hits: 0 }))
    }

    /// The block of `row`, if it is here.
    pub fn get(&self, row: &BlockRow) -> Option<Arc<Block>> {
        let mut held = self.lock();
        let block = held.blocks.get(&row.sha256).cloned();
        held.hits += u64::from(block.is_some());
        block
    }

    /// Whether the block of `row` is here; this does not count as reading it.
    pub fn contains(&self, row: &BlockRow) -> bool {
        self.lock().blocks.contains(&row.sha256)
    }

    /// Keeps a block.
    pub fn keep(&self, row: &BlockRow, block: Arc<Block>) {
        let gone = self.lock().blocks.insert(row.sha256, block, row.bytes as usize);
        // Blocks are freed here, when nobody waits for the lock any more.
        drop(gone);
    }

    /// How often a block was here, and the bytes of those that are.
    pub fn counts(&self) -> (u64, u64) {
        let held = self.lock();
        (held.hits, held.blocks.bytes() as u64)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source with the RAM cache in front.
#[derive(Debug)]
pub struct Decoded<S> {
    cache: Arc<BlockCache>,
    inner: S,
}

impl<S> Decoded<S> {
    /// `inner`, asked only for what `cache` does not hold.
    pub fn new(cache: Arc<BlockCache>, inner: S) -> Self {
        Self { cache, inner }
    }
}

#[async_trait]
impl<S: BlockSource> BlockSource for Decoded<S> {
    async fn block(&self, row: &BlockRow) -> Result<Arc<Block>, ReadError> {
        if let Some(block) = self.cache.get(row) {
            return Ok(block);
        }
        let block = self.inner.block(row).await?;
        self.cache.keep(row, Arc::clone(&block));
        Ok(block)
    }
}
