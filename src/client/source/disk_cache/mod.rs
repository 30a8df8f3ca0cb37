//! The disk cache: block files in the layout of a mirror, so that its directory can be served as one.
//!
//! It trusts nothing it reads: a file becomes a block only through [`Block::open`]. A bad file is dropped and fetched
//! again. Disk problems only mean less caching. Separate threads write and evict files. A disk that hangs or cannot
//! keep up is bypassed; reads from a slow disk are hedged with the network. Of several processes that miss a block, one
//! fetches it.

mod evict;
mod files;
mod locks;
mod reader;
mod share;
mod writer;

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::client::notice::{Notice, Observer};
use crate::format::block::BlockRow;
use crate::format::block::{Block, zlib_max_bytes};
use crate::repo::{BaseBlocks, BlockSource, Fetched, ReadError};
use crate::store::cache_mark;
pub use crate::store::cache_mark::CacheError;

use evict::Evictor;
use files::{Files, Found};
use reader::Reader;
use share::{Miss, Worth, during};
use writer::Writer;

/// A directory of block files with a size limit, shared with other processes.
#[derive(Debug)]
pub struct DiskStore {
    files: Files,
    reader: Reader,
    writer: Writer,
    worth: Worth,
    observer: Arc<dyn Observer>,
    repairs: AtomicU64,
    hits: AtomicU64,
    hit_bytes: AtomicU64,
}

impl DiskStore {
    /// Opens the cache in `directory`, creating it if missing, for `limit` bytes of files.
    ///
    /// # Errors
    /// The directory cannot be created or opened, or it has files but no mark that permits removing them.
    pub fn open(directory: &Path, limit: u64, observer: Arc<dyn Observer>) -> Result<Arc<Self>, CacheError> {
        cache_mark::claim(directory)?;
        let files = Files::open(directory)?;
        let writer = Writer::start(files.clone(), Evictor::start(files.clone(), limit), Arc::clone(&observer));
        let (worth, repairs, hits, hit_bytes) = Default::default();
        Ok(Arc::new(Self { files, reader: Reader::new(), writer, worth, observer, repairs, hits, hit_bytes }))
    }

    /// Number of bad files dropped.
    pub fn repairs(&self) -> u64 {
        self.repairs.load(Ordering::Relaxed)
    }

    /// Number of blocks read from disk, their decoded size in bytes, and the number of bad files dropped.
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.hit_bytes.load(Ordering::Relaxed), self.repairs())
    }

    /// Waits until all pending files are written, for at most `patience`.
    pub async fn settle(&self, patience: Duration) {
        self.writer.settle(patience).await;
    }

    /// Whether there is a file of plausible size for the block; its content is verified on reading. Blocks the thread.
    pub fn holds(&self, row: &BlockRow) -> bool {
        self.files.bytes(&row.id).is_some_and(|bytes| (1..=zlib_max_bytes(row.bytes)).contains(&bytes))
    }

    /// Reads and verifies the block, and counts it. Blocks the thread.
    fn load(&self, row: &BlockRow) -> Option<Block> {
        let block = self.read(row)?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        self.hit_bytes.fetch_add(block.len() as u64, Ordering::Relaxed);
        Some(block)
    }

    /// Reads and verifies a block; a bad file is dropped. Blocks the thread.
    pub fn read(&self, row: &BlockRow) -> Option<Block> {
        let why = match self.files.read(&row.id, zlib_max_bytes(row.bytes)) {
            Found::Nothing => return None,
            Found::Bad(why) => why,
            Found::File(file) => match Block::open(row, &file) {
                Ok(block) => return Some(block),
                Err(e) => e.to_string(),
            },
        };
        self.files.drop_bad(&row.id);
        self.repairs.fetch_add(1, Ordering::Relaxed);
        self.observer.notice(Notice::Healed { block: row.id, why });
        None
    }
}

impl BaseBlocks for DiskStore {
    fn holds(&self, row: &BlockRow) -> bool {
        Self::holds(self, row)
    }

    fn load(&self, row: &BlockRow) -> Option<Block> {
        self.read(row)
    }
}

/// A source behind the disk cache.
#[derive(Debug)]
pub struct DiskCache<S> {
    store: Arc<DiskStore>,
    inner: S,
}

impl<S> DiskCache<S> {
    /// Reads from `inner` what `store` does not hold.
    pub fn new(store: Arc<DiskStore>, inner: S) -> Self {
        Self { store, inner }
    }
}

#[async_trait]
impl<S: BlockSource> BlockSource for DiskCache<S> {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        let (store, wanted) = (Arc::clone(&self.store), *row);
        let mut loading = pin!(self.store.reader.run(move || store.load(&wanted)));
        let mut fetching = pin!(self.inner.fetch(row));
        let loaded = match self.store.reader.soon(&mut loading).await {
            Some(loaded) => loaded,
            None => tokio::select! {
                loaded = &mut loading => loaded,
                // Not written: the file most likely exists, and the disk is busy enough.
                fetched = &mut fetching => return match fetched {
                    Ok(fetched) => Ok(fetched.block.into()),
                    Err(e) => loading.await.map(|block| Arc::new(block).into()).ok_or(e),
                },
            },
        };
        if let Some(block) = loaded {
            return Ok(Arc::new(block).into());
        }
        let turn = match self.store.miss(row).await {
            Miss::Shared(block) => return Ok(Arc::new(block).into()),
            Miss::Own(turn) => turn,
        };
        let Fetched { block, file } = during(turn.as_ref(), fetching).await?;
        if let Some(file) = file {
            self.store.writer.keep(row.id, file, turn).await;
        }
        Ok(block.into())
    }
}
