//! Puts the sources of one image together, from the mirrors to the block source that an image is read from.

pub mod coalesce;
pub mod decoded;
pub mod disk;
pub mod lru;
pub mod mirror_list;
pub mod network;
pub mod single;
pub mod watched;

use std::sync::Arc;

use super::image::Image;
use super::map::Map;
use super::notice::Observer;
use super::prefetch::priority::{Gate, Wanted};
use crate::format::head::Head;
use crate::format::index::{BlockRow, Index};
use crate::repo::source::{Base, Source, place};
use crate::repo::{BlockSource, Mirror, Opened};
use crate::store::Fetch;
use crate::store::directory::Directory;
use crate::store::http::{Http, HttpClient};
use coalesce::Coalesce;
use decoded::{BlockCache, Decoded};
use disk::{DiskCache, DiskStore};
use network::{Deadline, Mode, Pace, Patient, Race, Roster};
use single::OneAtATime;
use watched::Watched;

/// What the mirrors are measured by at the start: the block whose file is nearest to this, in bytes.
const PROBE_BYTES: u32 = 64 << 10;
/// Mirrors that are measured at the start; more are measured by and by.
const PROBES_MAX: usize = 8;

/// Blocks that are fetched in advance at the same time, unless something else is said.
pub const JOBS: u32 = 16;

/// The network as a source: the mirrors behind their ranking.
pub type Network = Race<Watched<Deadline<Mirror>>>;

/// The repositories that an image can be read from, in the order in which they are tried.
#[derive(Debug)]
pub struct Sources {
    client: HttpClient,
    bases: Vec<Base>,
    stores: Vec<Arc<dyn Fetch>>,
}

/// How an image is read.
#[derive(Debug)]
pub struct Reading {
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
pub struct Readable {
    /// The image.
    pub image: Image,
    /// Its RAM cache.
    pub cache: Arc<BlockCache>,
    /// Its mirrors.
    pub network: Arc<Network>,
    /// Where what is fetched in advance waits for its turn.
    pub gate: Arc<Gate>,
}

impl Sources {
    /// The sources of a command line.
    pub fn new(client: HttpClient, sources: &[Source]) -> Self {
        let mut all = Self { client, bases: Vec::new(), stores: Vec::new() };
        sources.iter().for_each(|source| all.add(source.base.clone()));
        all
    }

    /// Adds the mirrors that a head names.
    pub fn add_mirrors(&mut self, head: &Head) {
        head.mirrors.iter().for_each(|url| self.add(Base::Url(url.clone())));
    }

    /// Each of them, as a store.
    pub fn stores(&self) -> &[Arc<dyn Fetch>] {
        &self.stores
    }

    /// The names of the places, as [`crate::repo::rollback`] remembers them.
    pub fn places(&self) -> Vec<String> {
        self.stores.iter().map(|store| place(&**store)).collect()
    }

    /// Adds one, unless it is here already.
    pub fn add(&mut self, base: Base) {
        if self.bases.contains(&base) {
            return;
        }
        self.stores.push(match &base {
            Base::Url(url) => Arc::new(Http::new(self.client.clone(), url.clone())),
            Base::Directory(path) => Arc::new(Directory::new(path)),
        });
        self.bases.push(base);
    }

    /// Looks up the names of all mirrors, so that they are known when nobody can be asked any more.
    pub async fn look_up(&self) {
        let urls = self.bases.iter().filter_map(|base| match base {
            Base::Url(url) => Some(url),
            Base::Directory(_) => None,
        });
        self.client.look_up(urls).await;
    }

    fn network(&self, pace: &Pace, observer: &Arc<dyn Observer>) -> Arc<Network> {
        let names: Vec<Arc<str>> = self.stores.iter().map(|store| store.location().into()).collect();
        let mirror = |(store, name): (&Arc<dyn Fetch>, &Arc<str>)| {
            let limited = Deadline::new(Mirror::new(Arc::clone(store)), Arc::clone(name), pace.attempt_max);
            Watched::new(limited, name, Arc::clone(observer))
        };
        let mirrors = self.stores.iter().zip(&names).map(mirror).collect();
        Arc::new(Race::new(mirrors, Roster::new(names, pace.clone())))
    }

    /// The image, behind its caches.
    pub fn image(&self, opened: &Opened, reading: Reading, observer: &Arc<dyn Observer>) -> Readable {
        let network = self.network(&reading.pace, observer);
        let gate = Gate::new(JOBS);
        let mut source: Arc<dyn BlockSource> = Arc::new(Wanted::new(Arc::clone(&network), Arc::clone(&gate)));
        if let Some(disk) = reading.disk {
            source = Arc::new(DiskCache::new(disk, source));
        }
        if !reading.parallel {
            source = Arc::new(OneAtATime::new(source));
        }
        let cache = Arc::new(BlockCache::new(reading.memory_bytes));
        let shared: Arc<dyn BlockSource> = Arc::new(Coalesce::new(Decoded::new(Arc::clone(&cache), source)));
        // Every reader has a patience of its own; what is fetched ahead needs none. Directories need it as well: they may
        // lie on a server that is started again, or be filled at this moment.
        let patient = Patient::new(Arc::clone(&shared), reading.mode, Arc::clone(observer));
        let source: Arc<dyn BlockSource> = Arc::new(patient);
        let map = Map::new(Arc::clone(&opened.index));
        let image = Image::new(map, Arc::clone(&cache), source).fetching_ahead(shared);
        Readable { image, cache, network, gate }
    }
}

impl Readable {
    /// Measures the mirrors, if there is a choice.
    pub async fn probe(network: Arc<Network>, index: Arc<Index>) {
        let distance = |row: &&BlockRow| row.zlib_bytes.abs_diff(PROBE_BYTES);
        if let Some(row) = index.blocks().iter().min_by_key(distance) {
            network.probe_first(PROBES_MAX, row).await;
        }
    }
}
