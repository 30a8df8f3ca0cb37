//! Puts the sources of one image together, from the mirrors to the block source that an image is read from.

use std::sync::Arc;

use super::coalesce::Coalesce;
use super::decoded::{BlockCache, Decoded};
use super::disk::{DiskCache, DiskStore};
use super::image::Image;
use super::map::Map;
use super::notice::Observer;
use super::single::OneAtATime;
use super::watched::Watched;
use crate::head::Head;
use crate::read::source::{Base, Source};
use crate::read::{BlockSource, Failover, Mirror, Opened};
use crate::store::directory::Directory;
use crate::store::http::{Http, HttpClient};
use crate::store::{Fetch, StoreError};

/// The repositories that an image can be read from, in the order in which they are tried.
#[derive(Debug)]
pub struct Sources {
    client: HttpClient,
    bases: Vec<Base>,
    stores: Vec<Arc<dyn Fetch>>,
}

impl Sources {
    /// The sources of a command line.
    ///
    /// # Errors
    /// When HTTP cannot be set up.
    pub fn new(sources: &[Source]) -> Result<Self, StoreError> {
        let mut all = Self { client: HttpClient::new()?, bases: Vec::new(), stores: Vec::new() };
        sources.iter().for_each(|source| all.add(source.base.clone()));
        Ok(all)
    }

    /// Adds the mirrors that a head names.
    pub fn add_mirrors(&mut self, head: &Head) {
        head.mirrors.iter().for_each(|url| self.add(Base::Url(url.clone())));
    }

    /// Each of them, as a store.
    pub fn stores(&self) -> &[Arc<dyn Fetch>] {
        &self.stores
    }

    /// The names of the places, as [`super::seen`] remembers them.
    pub fn places(&self) -> Vec<String> {
        self.stores.iter().map(|store| store.location().to_owned()).collect()
    }

    fn add(&mut self, base: Base) {
        if self.bases.contains(&base) {
            return;
        }
        self.stores.push(match &base {
            Base::Url(url) => Arc::new(Http::new(self.client.clone(), url.clone())),
            Base::Directory(path) => Arc::new(Directory::new(path)),
        });
        self.bases.push(base);
    }

    fn failover(&self, observer: &Arc<dyn Observer>) -> Failover<Watched<Mirror>> {
        let watched =
            |store: &Arc<dyn Fetch>| Watched::new(Mirror(Arc::clone(store)), store.location(), Arc::clone(observer));
        Failover::new(self.stores.iter().map(watched).collect())
    }

    /// The image, behind its caches. Without `parallel`, one block is fetched and decoded at a time.
    pub fn image(
        &self,
        opened: &Opened,
        memory_bytes: usize,
        disk: Option<Arc<DiskStore>>,
        parallel: bool,
        observer: &Arc<dyn Observer>,
    ) -> Image {
        let mut source: Arc<dyn BlockSource> = Arc::new(self.failover(observer));
        if let Some(disk) = disk {
            source = Arc::new(DiskCache::new(disk, source));
        }
        if !parallel {
            source = Arc::new(OneAtATime::new(source));
        }
        let cache = Arc::new(BlockCache::new(memory_bytes));
        let source = Arc::new(Coalesce::new(Decoded::new(Arc::clone(&cache), source)));
        Image::new(Map::new(Arc::clone(&opened.index)), cache, source)
    }
}
