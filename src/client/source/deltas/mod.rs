//! Deltas: a block is made from blocks at hand and a small file, where an update of the image's version lists one.
//!
//! Nothing depends on them. The whole block is fetched where a base is not at hand, at once when a delta is missing or
//! wrong, and beside it when it is slow. A block that was made is verified like any other.

mod table;

use std::fmt::Display;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::client::notice::{Notice, Observer};
use crate::format::block::{Block, BlockRow, packed};
use crate::repo::{self, BlockSource, Fetched, ReadError};
use crate::store::Fetch;
use crate::system::bridge;

pub use table::{DeltaTable, Patch};

/// How long a delta may take before the whole block is fetched as well.
const PATIENCE: Duration = Duration::from_secs(1);
/// After this many failures in a row, deltas are left alone for a time: the mirrors do not have them.
const FAILURES_MAX: u32 = 8;
const REST: Duration = Duration::from_secs(300);
/// Memory for the bases of all deltas in flight, in bytes, and the unit in which it is counted.
const BASES_BYTES: u64 = 6 << 20;
const PERMIT_BYTES: u64 = 16 << 10;

/// Counters of deltas.
#[derive(Debug, Default)]
pub struct DeltaCounts {
    /// Blocks made from deltas.
    pub blocks: AtomicU64,
    /// Size of these deltas in bytes.
    pub bytes: AtomicU64,
    /// By how much the whole blocks would have been larger, in bytes.
    pub saved_bytes: AtomicU64,
}

/// A source of blocks that uses deltas where it can.
#[derive(Debug)]
pub struct Deltas<D, S> {
    deltas: D,
    inner: S,
    table: Arc<DeltaTable>,
    /// Whether a disk cache keeps what is fetched.
    is_cached: bool,
    room: Semaphore,
    failures: Mutex<Failures>,
    counts: Arc<DeltaCounts>,
    observer: Arc<dyn Observer>,
}

/// Failures in a row, and until when deltas are left alone.
#[derive(Debug, Default)]
struct Failures {
    count: u32,
    rest_until: Option<Instant>,
}

impl<D, S> Deltas<D, S> {
    /// Fetches what `table` lists from `deltas`, and everything else from `inner`.
    pub fn new(
        (deltas, inner): (D, S),
        table: Arc<DeltaTable>,
        is_cached: bool,
        counts: Arc<DeltaCounts>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let room = Semaphore::new((BASES_BYTES / PERMIT_BYTES) as usize);
        Self { deltas, inner, table, is_cached, room, failures: Mutex::default(), counts, observer }
    }

    fn is_resting(&self) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.rest_until.is_some_and(|until| Instant::now() < until)
    }

    fn failed(&self, why: &dyn Display) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.count += 1;
        if failures.count >= FAILURES_MAX {
            *failures = Failures { count: 0, rest_until: Some(Instant::now() + REST) };
            drop(failures);
            self.observer.notice(Notice::DeltasUnusable { what: format!("whole blocks are fetched for now: {why}") });
        }
    }

    fn came(&self) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).count = 0;
    }
}

impl<D: BlockSource, S: BlockSource> Deltas<D, S> {
    /// The block, made from a delta.
    async fn made(&self, row: &BlockRow) -> Option<Fetched> {
        let usable = self.table.usable(row.id).await?;
        let permits = usable.prefix_bytes().div_ceil(PERMIT_BYTES).min(BASES_BYTES / PERMIT_BYTES);
        let _room = self.room.acquire_many(permits as u32).await.ok()?;
        let patch = self.table.prepare(usable).await?;
        let delta_bytes = patch.delta.bytes;
        // The network is measured by what it carries.
        let carried = BlockRow { zlib_bytes: delta_bytes, ..*row };
        let fetched = self.deltas.fetch(&carried).await;
        drop(patch);
        let Fetched { block, .. } = fetched.inspect_err(|why| self.failed(why)).ok()?;
        self.came();
        self.counts.blocks.fetch_add(1, Relaxed);
        self.counts.bytes.fetch_add(delta_bytes.into(), Relaxed);
        self.counts.saved_bytes.fetch_add(row.zlib_bytes.saturating_sub(delta_bytes).into(), Relaxed);
        Some(Fetched { file: self.file_of(&block).await, block })
    }

    /// The block as a file, if there is a disk cache: it holds files as mirrors have them.
    async fn file_of(&self, block: &Arc<Block>) -> Option<Bytes> {
        if !self.is_cached {
            return None;
        }
        let block = Arc::clone(block);
        Some(bridge::blocking(move || packed(&block)).await.into())
    }
}

#[async_trait]
impl<D: BlockSource, S: BlockSource> BlockSource for Deltas<D, S> {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        if !self.table.lists(&row.id) || self.is_resting() {
            return self.inner.fetch(row).await;
        }
        let mut made = std::pin::pin!(self.made(row));
        match tokio::time::timeout(PATIENCE, &mut made).await {
            Ok(Some(fetched)) => return Ok(fetched),
            Ok(None) => return self.inner.fetch(row).await,
            Err(_) => {}
        }
        let mut whole = std::pin::pin!(self.inner.fetch(row));
        tokio::select! {
            whole = &mut whole => match whole {
                Ok(fetched) => {
                    self.failed(&"deltas are slower than whole blocks");
                    Ok(fetched)
                }
                Err(e) => made.await.ok_or(e),
            },
            made = &mut made => match made {
                Some(fetched) => Ok(fetched),
                None => whole.await,
            },
        }
    }
}

/// One mirror as a source of blocks made from deltas.
#[derive(Debug)]
pub struct DeltaMirror {
    store: Arc<dyn Fetch>,
    table: Arc<DeltaTable>,
}

impl DeltaMirror {
    /// Reads deltas from `store`; `table` tells which, and has their bases.
    pub fn new(store: Arc<dyn Fetch>, table: Arc<DeltaTable>) -> Self {
        Self { store, table }
    }
}

#[async_trait]
impl BlockSource for DeltaMirror {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        let patch = self.table.prepared(&row.id).ok_or_else(ReadError::no_source)?;
        repo::delta_block(&*self.store, row, &patch.delta, Arc::clone(&patch.prefix)).await
    }
}
