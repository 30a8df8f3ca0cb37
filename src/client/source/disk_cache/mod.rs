//! The disk cache: block files as they lie on a mirror, so that its directory can be served as one.
//!
//! It trusts nothing that it reads: a file becomes a block only by [`Block::open`]. A bad one is dropped and fetched
//! again. Whatever goes wrong with the disk means less caching and nothing else; files are written and evicted by
//! threads of their own, and a disk that cannot keep up, or hangs, is left out; one that only is slow to read runs a race
//! with the network.

mod evict;
mod files;
mod reader;
mod writer;

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::client::notice::{Notice, Observer};
use crate::format::block::{Block, zlib_max_bytes};
use crate::format::index::BlockRow;
use crate::repo::{BlockSource, Fetched, ReadError};
use crate::store::cache_mark;
pub use crate::store::cache_mark::CacheError;

use evict::Evictor;
use files::{Files, Found};
use reader::Reader;
use writer::Writer;

/// A directory of block files, limited in bytes, shared with other processes.
#[derive(Debug)]
pub struct DiskStore {
    files: Files,
    reader: Reader,
    writer: Writer,
    observer: Arc<dyn Observer>,
    repairs: AtomicU64,
    hits: AtomicU64,
    hit_bytes: AtomicU64,
}

impl DiskStore {
    /// The cache in `directory`, which is made where it is missing, for `limit` bytes of files.
    ///
    /// # Errors
    /// When the directory cannot be made or opened, or has files and no mark that says that they may be removed.
    pub fn open(directory: &Path, limit: u64, observer: Arc<dyn Observer>) -> Result<Arc<Self>, CacheError> {
        cache_mark::claim(directory)?;
        let files = Files::open(directory)?;
        let writer = Writer::start(files.clone(), Evictor::start(files.clone(), limit), Arc::clone(&observer));
        let (repairs, hits, hit_bytes) = Default::default();
        Ok(Arc::new(Self { files, reader: Reader::new(), writer, observer, repairs, hits, hit_bytes }))
    }

    /// How many bad files were dropped.
    pub fn repairs(&self) -> u64 {
        self.repairs.load(Ordering::Relaxed)
    }

    /// How many blocks came from here, their bytes, and how many bad files were dropped.
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.hit_bytes.load(Ordering::Relaxed), self.repairs())
    }

    /// Returns when everything under way is written, or after `patience`.
    pub async fn settle(&self, patience: Duration) {
        self.writer.settle(patience).await;
    }

    /// Whether a file that can be the block's lies here; what is in it shows when it is read. Blocks the thread.
    pub fn holds(&self, row: &BlockRow) -> bool {
        self.files.bytes(&row.id).is_some_and(|bytes| (1..=zlib_max_bytes(row.bytes)).contains(&bytes))
    }

    /// The block from its file, if there is a good one. Blocks the thread.
    fn load(&self, row: &BlockRow) -> Option<Block> {
        let why = match self.files.read(&row.id, zlib_max_bytes(row.bytes)) {
            Found::Nothing => return None,
            Found::Bad(why) => why,
            Found::File(file) => match Block::open(row, &file) {
                Ok(block) => {
                    self.hits.fetch_add(1, Ordering::Relaxed);
                    self.hit_bytes.fetch_add(block.len() as u64, Ordering::Relaxed);
                    return Some(block);
                }
                Err(e) => e.to_string(),
            },
        };
        self.files.drop_bad(&row.id);
        self.repairs.fetch_add(1, Ordering::Relaxed);
        self.observer.notice(Notice::Healed { block: row.id, why });
        None
    }
}

/// A source with the disk cache in front.
#[derive(Debug)]
pub struct DiskCache<S> {
    store: Arc<DiskStore>,
    inner: S,
}

impl<S> DiskCache<S> {
    /// `inner`, asked only for what `store` does not hold.
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
                // Not written: most likely it is there, and the disk has enough to do.
                fetched = &mut fetching => return match fetched {
                    Ok(fetched) => Ok(fetched.block.into()),
                    Err(e) => loading.await.map(|block| Arc::new(block).into()).ok_or(e),
                },
            },
        };
        if let Some(block) = loaded {
            return Ok(Arc::new(block).into());
        }
        let Fetched { block, file } = fetching.await?;
        if let Some(file) = file {
            self.store.writer.keep(row.id, file).await;
        }
        Ok(block.into())
    }
}
