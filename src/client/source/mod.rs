//! Puts the sources of one image together, from the mirrors to the block source that an image is read from.

pub mod coalesce;
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
use crate::format::index::{BlockRow, Index};
use crate::repo::{BlockSource, Mirror, Opened};
use crate::store::Fetch;
use coalesce::Coalesce;
use disk_cache::{DiskCache, DiskStore};
use memory_cache::{MemoryCache, MemoryCached};
use mirrors::{Deadline, Hedged, Mode, Pace, Persistent, Ranking};
use observed::Observed;
use serial::Serial;

/// What the mirrors are measured by at the start: the block whose file is nearest to this, in bytes.
const PROBE_BYTES: u32 = 64 << 10;
/// Mirrors that are measured at the start; more are measured by and by.
const PROBES_MAX: usize = 8;

/// Blocks that are fetched in advance at the same time, unless something else is said.
pub const JOBS: u32 = 16;

/// The network as a source: the mirrors behind their ranking.
pub type Network = Hedged<Observed<Deadline<Mirror>>>;

/// How an image is read.
#[derive(Debug)]
pub struct ReadOptions {
    /// Decoded blocks in RAM, in bytes.
    pub memory_bytes: usize,
    /// The cache on disk.
    pub disk: Option<Arc<DiskStore>>,
    /// Without it, one block is fetched and decoded at a time.
    pub parallel: bool,
    /// What becomes of reads that no mirror answers.
    pub mode: Mode,
    /// The times by which mirrors are judged.
    pub pace: Pace,
}

/// An image that can be read, and the network behind it.
#[derive(Debug)]
pub struct ReadStack {
    /// The image, which reads from `source`.
    pub image: Image,
    /// Its blocks, as a reader gets them.
    pub source: Arc<dyn BlockSource>,
    /// Its RAM cache.
    pub cache: Arc<MemoryCache>,
    /// Its mirrors.
    pub network: Arc<Network>,
    /// Where what is fetched in advance waits for its turn.
    pub scheduler: Arc<Scheduler>,
}

impl ReadStack {
    /// The sources of an image from its mirrors to its readers.
    pub fn build(mirrors: &Mirrors, opened: &Opened, reading: ReadOptions, observer: &Arc<dyn Observer>) -> Self {
        let network = network(mirrors.stores(), &reading, observer);
        let scheduler = Scheduler::new(JOBS);
        let mut source: Arc<dyn BlockSource> =
            Arc::new(DemandSource::new(Arc::clone(&network), Arc::clone(&scheduler)));
        if let Some(disk) = reading.disk {
            source = Arc::new(DiskCache::new(disk, source));
        }
        if !reading.parallel {
            source = Arc::new(Serial::new(source));
        }
        let cache = Arc::new(MemoryCache::new(reading.memory_bytes));
        let shared: Arc<dyn BlockSource> = Arc::new(Coalesce::new(MemoryCached::new(Arc::clone(&cache), source)));
        // Every reader has a patience of its own; what is fetched ahead needs none. Directories need it as well: they may
        // lie on a server that is started again, or be filled at this moment.
        let patient = Persistent::new(Arc::clone(&shared), reading.mode, Arc::clone(observer));
        let source: Arc<dyn BlockSource> = Arc::new(patient);
        let map = ExtentMap::new(Arc::clone(&opened.index));
        let image = Image::new(map, Arc::clone(&cache), Arc::clone(&source)).fetching_ahead(shared);
        Self { image, source, cache, network, scheduler }
    }

    /// Measures the mirrors, if there is a choice.
    pub async fn probe(network: Arc<Network>, index: Arc<Index>) {
        let distance = |row: &&BlockRow| row.zlib_bytes.abs_diff(PROBE_BYTES);
        if let Some(row) = index.blocks().iter().min_by_key(distance) {
            network.probe_first(PROBES_MAX, row).await;
        }
    }
}

/// The mirrors behind their ranking.
fn network(stores: &[Arc<dyn Fetch>], reading: &ReadOptions, observer: &Arc<dyn Observer>) -> Arc<Network> {
    let names: Vec<Arc<str>> = stores.iter().map(|store| store.location().into()).collect();
    // Where there is no other mirror and no second round, what is missing is asked for again at once.
    let is_only = reading.mode == Mode::Once && stores.len() == 1;
    let mirror = |(store, name): (&Arc<dyn Fetch>, &Arc<str>)| {
        let mirror = if is_only { Mirror::only(Arc::clone(store)) } else { Mirror::new(Arc::clone(store)) };
        let limited = Deadline::new(mirror, Arc::clone(name), reading.pace.attempt_max);
        Observed::new(limited, name, Arc::clone(observer))
    };
    let mirrors = stores.iter().zip(&names).map(mirror).collect();
    Arc::new(Hedged::new(mirrors, Ranking::new(names, reading.pace.clone())))
}
