//! Opens an image for reading: its mirrors and cache, its head and index, and the stack of block sources.
//!
//! All readers use this one procedure: a mount, an NBD export, a download into the cache, a restore.

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
use super::source::deltas::DeltaTable;
use super::source::disk_cache::DiskStore;
use super::source::mirrors::{Mode, Pace};
use super::source::{ReadOptions, ReadStack};
use super::status::Status;
use super::updates;
use crate::error::Error;
use crate::format::profile::Profile;
use crate::format::update;
use crate::repo::source::Base;
use crate::repo::{BaseBlocks, BlockSource, OpenOptions, Opened};
use crate::store::http::HttpOptions;

/// How long blocks just fetched may take to reach the disk cache at the end.
const SETTLE: Duration = Duration::from_secs(5);
/// How long to wait for an update before the image can be read.
const UPDATE_WAIT: Duration = Duration::from_millis(500);
/// The largest readahead of a stream, in bytes, and its share of the block memory, in eighths.
const READAHEAD_MAX_BYTES: u64 = 16 << 20;
const READAHEAD_EIGHTHS: u64 = 3;
/// One part in this many of that memory is reserved for what is not counted elsewhere: connection buffers, replies to
/// the kernel, files queued for the disk.
const BUFFERS_PART: u64 = 4;

/// Which image is read, and how.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// The repositories known to hold the image.
    pub bases: Vec<Base>,
    /// Whether to ignore the mirrors named by the head.
    pub alone: bool,
    /// Image, version, and how to verify them.
    pub accept: OpenOptions,
    /// Options of the HTTP client.
    pub http: HttpOptions,
    /// What happens to a read that no mirror answers.
    pub mode: Mode,
    /// The disk cache, if any.
    pub cache: Option<CacheOptions>,
    /// Further places with blocks of older versions.
    pub base_blocks: Vec<Arc<dyn BaseBlocks>>,
    /// Memory for blocks, including those in flight, in bytes; 0 if no block is read twice.
    pub memory_bytes: u64,
    /// Whether to read ahead of sequential streams.
    pub readahead: bool,
    /// Fetches and decodes one block at a time, without prefetch.
    pub one_at_a_time: bool,
    /// The image holds the root file system: no path is opened later, since the path may lead through the image itself.
    pub holds_root: bool,
    /// Time between two looks for a newer version; `None` for no looks.
    pub look_for_newer: Option<Duration>,
    /// Recording and prefetching of the blocks a boot reads.
    pub profile: ProfileOptions,
}

impl ClientOptions {
    /// Reads each block at most once, without a cache, and fails at the first block that no source has.
    pub fn once(bases: Vec<Base>, accept: OpenOptions) -> Self {
        Self {
            bases,
            alone: true,
            accept,
            http: HttpOptions::default(),
            mode: Mode::Once,
            cache: None,
            base_blocks: Vec::new(),
            memory_bytes: 0,
            readahead: false,
            one_at_a_time: false,
            holds_root: false,
            look_for_newer: None,
            profile: ProfileOptions::none(),
        }
    }

    /// The largest readahead of a stream, in bytes.
    fn readahead_bytes(&self) -> u64 {
        let is_off = !self.readahead || self.one_at_a_time;
        if is_off { 0 } else { READAHEAD_MAX_BYTES.min(self.memory_bytes / 8 * READAHEAD_EIGHTHS) }
    }

    fn read_options(&self, disk: Option<Arc<DiskStore>>) -> ReadOptions {
        let held = self.memory_bytes - self.memory_bytes / BUFFERS_PART - self.readahead_bytes() / UNDER_WAY_PART;
        ReadOptions {
            // At least one byte: a block larger than the whole memory is not cached.
            memory_bytes: usize::try_from(held.max(1)).unwrap_or(usize::MAX),
            disk,
            base_blocks: self.base_blocks.clone(),
            parallel: !self.one_at_a_time,
            mode: self.mode,
            pace: Pace::default(),
        }
    }
}

/// An open image and its environment.
#[derive(Debug)]
pub struct Client {
    /// The verified head and index.
    pub opened: Opened,
    /// The image as readable bytes.
    pub image: Arc<Image>,
    /// The outermost block source.
    pub source: Arc<dyn BlockSource>,
    /// Counters and state, for the status file and Prometheus.
    pub status: Arc<Status>,
    /// The updates whose deltas are used, if there are places with old blocks.
    pub deltas: Option<Arc<DeltaTable>>,
    /// The mirrors of the image.
    pub mirrors: Mirrors,
    /// The disk cache, if any.
    pub cache: Option<Cache>,
    /// The largest readahead of a stream, in bytes.
    pub readahead_bytes: u64,
    /// The boot profile being recorded, if any.
    recording: Option<Arc<Recording>>,
    observer: Arc<dyn Observer>,
}

/// Opens an image; starts measuring its mirrors and prefetching its profile. Call it on a runtime that lives as long as
/// the image is read.
///
/// # Errors
/// No mirror has an acceptable head, or none has the index; a required cache or record cannot be opened.
pub async fn open(options: ClientOptions, observer: Arc<dyn Observer>) -> Result<Client, Error> {
    let mirrors = Mirrors::connect(&options.http, options.bases.iter().cloned())?.alone(options.alone);
    Opening { options, mirrors, cache: None, observer }.open().await
}

/// A client being opened.
struct Opening {
    options: ClientOptions,
    mirrors: Mirrors,
    cache: Option<Cache>,
    observer: Arc<dyn Observer>,
}

impl Opening {
    async fn open(mut self) -> Result<Client, Error> {
        // A client that fills the cache opens nothing from it, and creates no cache for an image that does not exist.
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
        self.use_deltas(&stack, &opened).await;
        let status = Arc::new(Status::new(&opened, &stack, disk, self.options.mode));
        self.look_for_newer(&opened, &status);
        let deltas = stack.deltas.clone();
        let (readahead_bytes, source) = (self.options.readahead_bytes(), Arc::clone(&stack.source));
        let (image, recording) = self.follow_profile(stack, &opened, &status).await?;
        let Self { mirrors, cache, observer, .. } = self;
        Ok(Client { opened, image, source, status, deltas, mirrors, cache, readahead_bytes, recording, observer })
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

    /// Stores what makes the cache a mirror: waits for it if that must come first, otherwise in the background.
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

    fn look_for_newer(&self, opened: &Opened, status: &Status) {
        let Some(pause) = self.options.look_for_newer else { return };
        let (stores, accept) = (self.mirrors.stores().to_vec(), self.options.accept.clone());
        let newer = status.newer.clone();
        tokio::spawn(newer.keep_looking(opened.clone(), stores, accept, pause, Arc::clone(&self.observer)));
    }

    /// Gets the updates from versions in the cache, or without one from the newest: waits for them if everything is to be
    /// read, otherwise for a moment, so that what is read first can be made from deltas.
    async fn use_deltas(&self, stack: &ReadStack, opened: &Opened) {
        let Some(table) = stack.deltas.clone() else { return };
        let fills_cache = self.cache.as_ref().is_none_or(|cache| cache.options.need == Need::Required);
        let max_bytes = if fills_cache { update::FILE_MAX_BYTES } else { updates::MOUNT_MAX_BYTES };
        let (opened, stores, observer) = (opened.clone(), self.mirrors.stores().to_vec(), Arc::clone(&self.observer));
        let kept = self.cache.as_ref().map(|cache| cache.kept.clone());
        let held = match &kept {
            Some(kept) => updates::held(&opened, kept).await,
            None => updates::newest(&opened),
        };
        let kept = kept.filter(|_| !self.options.holds_root);
        let set = async move {
            table.set(updates::updates(&opened, &stores, kept.as_ref(), &held, max_bytes, &*observer).await);
        };
        if fills_cache {
            return set.await;
        }
        let setting = tokio::spawn(set);
        let _ = tokio::time::timeout(UPDATE_WAIT, setting).await;
    }

    /// Returns the image, with its reads recorded and its profile prefetched as the options specify.
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
    /// Returns the profile named by the head, of at most `max_bytes`, if there is one.
    pub async fn profile(&self, max_bytes: u64) -> Option<Profile> {
        let kept = self.cache.as_ref().map(|cache| &cache.kept);
        own_profile(&self.opened, self.mirrors.stores(), kept, max_bytes, &*self.observer).await
    }

    /// Flushes pending blocks to the disk cache and the record to its file.
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
