//! Builds the stack of block sources of one image, from the mirrors to the reader.

pub mod coalesce;
pub mod deltas;
pub mod disk_cache;
pub mod lru;
pub mod memory_cache;
pub mod mirror_list;
pub mod mirrors;
pub mod observed;
pub mod serial;

use std::sync::Arc;

use super::extent_map::ExtentMap;
use super::image::Image;
use super::mirrors::Mirrors;
use super::notice::Observer;
use super::prefetch::scheduler::{DemandSource, Scheduler};
use crate::format::block::BlockRow;
use crate::format::index::Index;
use crate::repo::{BaseBlocks, BlockSource, Mirror, Opened};
use crate::store::Fetch;
use coalesce::Coalesce;
use deltas::{DeltaCounts, DeltaMirror, DeltaTable, Deltas};
use disk_cache::{DiskCache, DiskStore};
use memory_cache::{MemoryCache, MemoryCached};
use mirrors::{Deadline, Hedged, Mode, Pace, Persistent, Ranking};
use observed::Observed;
use serial::Serial;

/// Mirrors are first measured with the block whose compressed size is nearest to this, in bytes.
const PROBE_BYTES: u32 = 64 << 10;
/// Mirrors measured at the start; the others are measured over time.
const PROBES_MAX: usize = 8;

/// Default limit of concurrent prefetches.
pub const JOBS: u32 = 16;

/// The network as a source: the ranked mirrors.
pub type Network = Hedged<Arc<dyn BlockSource>>;

/// How an image is read.
#[derive(Debug)]
pub struct ReadOptions {
    /// Limit of decoded blocks in RAM, in bytes.
    pub memory_bytes: usize,
    /// The disk cache, if any.
    pub disk: Option<Arc<DiskStore>>,
    /// Further places with blocks that deltas may be based on.
    pub base_blocks: Vec<Arc<dyn BaseBlocks>>,
    /// If false, one block is fetched and decoded at a time.
    pub parallel: bool,
    /// What happens to a read that no mirror answers.
    pub mode: Mode,
    /// Time limits for judging mirrors.
    pub pace: Pace,
}

/// A readable image, and the network behind it.
#[derive(Debug)]
pub struct ReadStack {
    /// The image, which reads from `source`.
    pub image: Image,
    /// The outermost block source.
    pub source: Arc<dyn BlockSource>,
    /// The memory cache.
    pub cache: Arc<MemoryCache>,
    /// The mirrors.
    pub network: Arc<Network>,
    /// The mirrors as a source of deltas.
    pub delta_network: Option<Arc<Network>>,
    /// Grants slots to prefetches.
    pub scheduler: Arc<Scheduler>,
    /// The updates whose deltas are used; `None` if there is no place with old blocks.
    pub deltas: Option<Arc<DeltaTable>>,
    /// Counters of deltas.
    pub delta_counts: Arc<DeltaCounts>,
}

impl ReadStack {
    /// Builds the stack of an image.
    pub fn build(mirrors: &Mirrors, opened: &Opened, reading: ReadOptions, observer: &Arc<dyn Observer>) -> Self {
        let network = network(mirrors.stores(), &reading, observer);
        let scheduler = Scheduler::new(JOBS);
        let mut source: Arc<dyn BlockSource> =
            Arc::new(DemandSource::new(Arc::clone(&network), Arc::clone(&scheduler)));
        let (table, delta_counts) = (delta_table(&reading), Arc::default());
        let delta_network = table.as_ref().map(|table| deltas_of(mirrors.stores(), table, &reading));
        if let (Some(table), Some(network)) = (&table, &delta_network) {
            let deltas = DemandSource::new(Arc::clone(network), Arc::clone(&scheduler));
            let (counts, is_cached) = (Arc::clone(&delta_counts), reading.disk.is_some());
            let observer = Arc::clone(observer);
            source = Arc::new(Deltas::new((deltas, source), Arc::clone(table), is_cached, counts, observer));
        }
        if let Some(disk) = reading.disk {
            source = Arc::new(DiskCache::new(disk, source));
        }
        if !reading.parallel {
            source = Arc::new(Serial::new(source));
        }
        let cache = Arc::new(MemoryCache::new(reading.memory_bytes));
        let shared: Arc<dyn BlockSource> = Arc::new(Coalesce::new(MemoryCached::new(Arc::clone(&cache), source)));
        // Each reader retries on its own; prefetch does not retry. Directories need retries as well: they may lie on a
        // server that is being restarted, or be filled at this moment.
        let source: Arc<dyn BlockSource> =
            Arc::new(Persistent::new(Arc::clone(&shared), reading.mode, Arc::clone(observer)));
        let map = ExtentMap::new(Arc::clone(&opened.index));
        let image = Image::new(map, Arc::clone(&cache), Arc::clone(&source)).fetching_ahead(shared);
        Self { image, source, cache, network, delta_network, scheduler, deltas: table, delta_counts }
    }

    /// Measures the mirrors, if there are several.
    pub async fn probe(network: Arc<Network>, index: Arc<Index>) {
        let distance = |row: &&BlockRow| row.zlib_bytes.abs_diff(PROBE_BYTES);
        if let Some(row) = index.blocks().iter().min_by_key(distance) {
            network.probe_first(PROBES_MAX, row).await;
        }
    }
}

/// Puts the mirrors behind their ranking.
fn network(stores: &[Arc<dyn Fetch>], reading: &ReadOptions, observer: &Arc<dyn Observer>) -> Arc<Network> {
    // With a single mirror and no retry, a missing block is requested again at once.
    let is_only = reading.mode == Mode::Once && stores.len() == 1;
    ranked(stores, reading, |store, name| {
        let mirror = if is_only { Mirror::only(store) } else { Mirror::new(store) };
        Arc::new(Observed::new(limited(mirror, name, reading), name, Arc::clone(observer)))
    })
}

/// The same mirrors as a source of deltas. They are ranked apart: a mirror may have all blocks and no deltas.
fn deltas_of(stores: &[Arc<dyn Fetch>], table: &Arc<DeltaTable>, reading: &ReadOptions) -> Arc<Network> {
    ranked(stores, reading, |store, name| Arc::new(limited(DeltaMirror::new(store, Arc::clone(table)), name, reading)))
}

/// A source for each mirror, behind a ranking of them.
fn ranked(
    stores: &[Arc<dyn Fetch>],
    reading: &ReadOptions,
    source: impl Fn(Arc<dyn Fetch>, &Arc<str>) -> Arc<dyn BlockSource>,
) -> Arc<Network> {
    let names: Vec<Arc<str>> = stores.iter().map(|store| store.location().into()).collect();
    let sources = stores.iter().zip(&names).map(|(store, name)| source(Arc::clone(store), name)).collect();
    Arc::new(Hedged::new(sources, Ranking::new(names, reading.pace.clone())))
}

/// A mirror with a time limit for each request. Behind a pointer, so that both networks are the same code.
fn limited(
    mirror: impl BlockSource + 'static,
    name: &Arc<str>,
    reading: &ReadOptions,
) -> Deadline<Arc<dyn BlockSource>> {
    Deadline::new(Arc::new(mirror), Arc::clone(name), reading.pace.attempt_max)
}

/// The table of deltas, if there is a place with old blocks.
fn delta_table(reading: &ReadOptions) -> Option<Arc<DeltaTable>> {
    let disk = reading.disk.iter().map(|disk| Arc::clone(disk) as Arc<dyn BaseBlocks>);
    let places: Vec<Arc<dyn BaseBlocks>> = disk.chain(reading.base_blocks.iter().cloned()).collect();
    (!places.is_empty()).then(|| DeltaTable::new(places))
}
