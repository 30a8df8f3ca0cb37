//! Opens an image to be read: its mirrors and its cache, its head and index, and the sources that its blocks come from.
//!
//! The one procedure of all that read: a mount, an NBD export, a download into the cache, a restore.

use std::sync::Arc;
use std::time::Duration;

use super::boot_profile::{FetchAhead, ProfileOptions, kept_profile, own_profile};
use super::cache::{Cache, CacheOptions, Need};
use super::head;
use super::image::Image;
use super::mirrors::Mirrors;
use super::notice::{Notice, Observer};
use super::prefetch::UNDER_WAY_PART;
use super::prefetch::record::{FirstReads, Recording};
use super::source::disk_cache::DiskStore;
use super::source::mirrors::{Mode, Pace};
use super::source::{ReadOptions, ReadStack};
use super::status::Status;
use crate::error::Error;
use crate::format::profile::Profile;
use crate::repo::source::Base;
use crate::repo::{BlockSource, OpenOptions, Opened};
use crate::store::http::HttpOptions;

/// How long blocks that were just fetched may take to reach the disk cache at the end.
const SETTLE: Duration = Duration::from_secs(5);
/// The most that is read ahead of a stream, in bytes, and its eighths of the memory for blocks.
const READAHEAD_MAX_BYTES: u64 = 16 << 20;
const READAHEAD_EIGHTHS: u64 = 3;
/// The part of that memory for what nobody else counts: buffers of connections, answers to the kernel, files on their way
/// to the disk.
const BUFFERS_PART: u64 = 4;

/// Which image is read, and how.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// The repositories that it is in, as far as they are known.
    pub bases: Vec<Base>,
    /// Whether the mirrors that its head names are left out.
    pub alone: bool,
    /// The image, and what counts as proof of it.
    pub accept: OpenOptions,
    /// How web servers are reached.
    pub http: HttpOptions,
    /// What becomes of reads that no mirror answers.
    pub mode: Mode,
    /// The cache on disk, if there is to be one.
    pub cache: Option<CacheOptions>,
    /// Memory for blocks, those on their way included, in bytes; none where nothing reads twice.
    pub memory_bytes: u64,
    /// Whether blocks are fetched because they come next.
    pub readahead: bool,
    /// Fetches and decodes one block at a time, and nothing in advance.
    pub one_at_a_time: bool,
    /// A root file system hangs on it: nothing is opened by a path later on, since the path may lead through itself.
    pub holds_root: bool,
    /// What is done about the blocks that a boot reads.
    pub profile: ProfileOptions,
}

impl ClientOptions {
    /// Reads each block at most once, without a cache, and fails at the first block that cannot be had.
    pub fn once(base: Base, accept: OpenOptions) -> Self {
        Self {
            bases: vec![base],
            alone: true,
            accept,
            http: HttpOptions::default(),
            mode: Mode::Once,
            cache: None,
            memory_bytes: 0,
            readahead: false,
            one_at_a_time: false,
            holds_root: false,
            profile: ProfileOptions::none(),
        }
    }

    /// The most that is read ahead of a stream, in bytes.
    fn readahead_bytes(&self) -> u64 {
        let is_off = !self.readahead || self.one_at_a_time;
        if is_off { 0 } else { READAHEAD_MAX_BYTES.min(self.memory_bytes / 8 * READAHEAD_EIGHTHS) }
    }

    fn read_options(&self, disk: Option<Arc<DiskStore>>) -> ReadOptions {
        let held = self.memory_bytes - self.memory_bytes / BUFFERS_PART - self.readahead_bytes() / UNDER_WAY_PART;
        ReadOptions {
            // At least one byte: a block that is larger than all of the memory is not kept.
            memory_bytes: usize::try_from(held.max(1)).unwrap_or(usize::MAX),
            disk,
            parallel: !self.one_at_a_time,
            mode: self.mode,
            pace: Pace::default(),
        }
    }
}

/// An image that is open, and everything around it.
#[derive(Debug)]
pub struct Client {
    /// What it is, verified.
    pub opened: Opened,
    /// Its bytes.
    pub image: Arc<Image>,
    /// Its blocks.
    pub source: Arc<dyn BlockSource>,
    /// How it goes.
    pub status: Arc<Status>,
    /// Where it comes from.
    pub mirrors: Mirrors,
    /// Its cache.
    pub cache: Option<Cache>,
    /// The most that is to be read ahead of a stream, in bytes.
    pub readahead_bytes: u64,
    /// What is noted of its reads.
    recording: Option<Arc<Recording>>,
    observer: Arc<dyn Observer>,
}

/// Opens an image; from then on its mirrors are measured, and blocks of its profile are on their way. Call it on a runtime
/// that lives as long as the image is read.
///
/// # Errors
/// No mirror has a head that is accepted, or none the index; a cache or a record that is needed and cannot be had.
pub async fn open(options: ClientOptions, observer: Arc<dyn Observer>) -> Result<Client, Error> {
    let mirrors = Mirrors::connect(&options.http, options.bases.iter().cloned())?.alone(options.alone);
    Opening { options, mirrors, cache: None, observer }.open().await
}

/// A client that is being opened.
struct Opening {
    options: ClientOptions,
    mirrors: Mirrors,
    cache: Option<Cache>,
    observer: Arc<dyn Observer>,
}

impl Opening {
    async fn open(mut self) -> Result<Client, Error> {
        // Who is there to fill the cache opens nothing out of it, and makes no cache for an image that is not there.
        let fills_cache = self.options.cache.as_ref().is_some_and(|cache| cache.need == Need::Required);
        if !fills_cache {
            self.open_cache().await?;
        }
        let opened = self.open_head().await?;
        if fills_cache {
            self.open_cache().await?;
        }
        if self.options.holds_root {
            self.mirrors.look_up().await;
        }
        self.keep(&opened).await?;
        let disk = self.cache.as_ref().map(|cache| Arc::clone(&cache.disk));
        let stack = ReadStack::build(&self.mirrors, &opened, self.options.read_options(disk.clone()), &self.observer);
        if !self.options.one_at_a_time {
            tokio::spawn(ReadStack::probe(Arc::clone(&stack.network), Arc::clone(&opened.index)));
        }
        let status = Arc::new(Status::new(&opened, &stack, disk, self.options.mode));
        let (readahead_bytes, source) = (self.options.readahead_bytes(), Arc::clone(&stack.source));
        let (image, recording) = self.follow_profile(stack, &opened, &status).await?;
        let Self { mirrors, cache, observer, .. } = self;
        Ok(Client { opened, image, source, status, mirrors, cache, readahead_bytes, recording, observer })
    }

    async fn open_cache(&mut self) -> Result<(), Error> {
        if let Some(cache) = &self.options.cache {
            self.cache = Cache::open(cache, &self.observer).await?;
        }
        Ok(())
    }

    async fn open_head(&mut self) -> Result<Opened, Error> {
        let (accept, mode, observer) = (&self.options.accept, self.options.mode, &*self.observer);
        match &self.cache {
            Some(cache) => head::open_or_kept(&mut self.mirrors, accept, mode, &cache.kept, observer).await,
            None => head::open(&mut self.mirrors, accept, mode, observer).await,
        }
    }

    /// Keeps what makes the cache a mirror: at once where it has to be done before anything else, else meanwhile.
    async fn keep(&self, opened: &Opened) -> Result<(), Error> {
        let Some(cache) = self.cache.clone() else { return Ok(()) };
        let is_awaited = self.options.holds_root || cache.options.need == Need::Required;
        let (opened, observer) = (opened.clone(), Arc::clone(&self.observer));
        let (stores, trust) = (self.mirrors.stores().to_vec(), self.options.accept.trust.clone());
        let keep = async move { cache.keep(&opened, &stores, &trust, &*observer).await };
        if is_awaited {
            return keep.await;
        }
        tokio::spawn(keep);
        Ok(())
    }

    /// The image with its reads noted and a profile's blocks on their way, as the options have it.
    async fn follow_profile(
        &self,
        stack: ReadStack,
        opened: &Opened,
        status: &Status,
    ) -> Result<(Arc<Image>, Option<Arc<Recording>>), Error> {
        let (options, cache) = (&self.options, self.cache.as_ref());
        let reads = FirstReads::new(opened.index.blocks().len());
        let is_noted = options.profile.wants_reads(cache.is_some());
        let image = Arc::new(if is_noted { stack.image.noting(Arc::clone(&reads)) } else { stack.image });
        let recording = options.profile.start_recording(&reads, opened, &self.observer)?;
        if options.one_at_a_time {
            return Ok((image, recording));
        }
        let found = match cache {
            Some(cache) if options.holds_root => kept_profile(opened, &cache.kept).await,
            _ => None,
        };
        let ahead = FetchAhead {
            image: &image,
            scheduler: &stack.scheduler,
            reads: &reads,
            opened,
            stores: self.mirrors.stores(),
            cache,
            profile: options.profile.given.clone().or(found),
            may_open_cache: !options.holds_root,
            counts: Arc::clone(&status.ahead),
            observer: &self.observer,
        };
        ahead.start(&options.profile);
        Ok((image, recording))
    }
}

impl Client {
    /// The profile that the head names, of at most `max_bytes`, if there is one.
    pub async fn profile(&self, max_bytes: u64) -> Option<Profile> {
        let kept = self.cache.as_ref().map(|cache| &cache.kept);
        own_profile(&self.opened, self.mirrors.stores(), kept, max_bytes, &*self.observer).await
    }

    /// Has what is under way brought to the disk cache and the record to its file.
    pub async fn close(&self) {
        if let Some(Err(e)) = self.recording.as_ref().map(|recording| recording.write()) {
            self.observer.notice(Notice::RecordIncomplete { why: e.to_string() });
        }
        if let Some(cache) = &self.cache {
            cache.disk.settle(SETTLE).await;
            if cache.disk.repairs() > 0 {
                self.observer.notice(Notice::Dropped { files: cache.disk.repairs() });
            }
        }
    }
}
