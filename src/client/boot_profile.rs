//! The boot profile: records the blocks a boot reads, and prefetches them in the next boot.

use std::path::PathBuf;
use std::sync::Arc;

use super::cache::Cache;
use super::image::Image;
use super::notice::{Notice, Observer};
use super::prefetch::profile::{ProfileCounts, ProfilePrefetch, Room};
use super::prefetch::record::{FirstReads, Recording};
use super::prefetch::scheduler::Scheduler;
use super::source::JOBS;
use super::state::local_mirror::LocalMirror;
use crate::error::Error;
use crate::format::head::FileRow;
use crate::format::profile::Profile;
use crate::repo::{self, Opened};
use crate::store::Fetch;

/// The largest profile fetched without being requested, in bytes.
const FETCHED_MAX_BYTES: u64 = 8 << 20;
/// One part in this many of the disk cache is not filled by prefetch.
const DISK_PART: u64 = 8;

/// Recording and prefetching of the blocks a boot reads.
#[derive(Debug, Clone)]
pub struct ProfileOptions {
    /// The file that the block reads are recorded to.
    pub record: Option<PathBuf>,
    /// The profile to prefetch instead of the image's own.
    pub given: Option<Profile>,
    /// Whether to prefetch a profile.
    pub fetch: bool,
    /// Limit of concurrent prefetches.
    pub jobs: u32,
    /// Limit of the prefetch rate, in bytes per second.
    pub rate: Option<u64>,
}

impl ProfileOptions {
    /// Neither records nor prefetches.
    pub fn none() -> Self {
        Self { record: None, given: None, fetch: false, jobs: JOBS, rate: None }
    }

    /// Whether reads have to be recorded.
    pub fn wants_reads(&self, has_disk: bool) -> bool {
        self.record.is_some() || (self.fetch && !has_disk)
    }

    /// Starts to record, if requested.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn start_recording(
        &self,
        reads: &Arc<FirstReads>,
        opened: &Opened,
        observer: &Arc<dyn Observer>,
    ) -> Result<Option<Arc<Recording>>, Error> {
        let Some(path) = &self.record else { return Ok(None) };
        let failed = |e| Error::io(path, &e).about(&"--record");
        let path = std::path::absolute(path).map_err(failed)?;
        let recording = Recording::start(Arc::clone(reads), Arc::clone(&opened.index), &path).map_err(failed)?;
        let observer = Arc::clone(observer);
        let failed = move |e: std::io::Error| observer.notice(Notice::NotRecorded { why: e.to_string() });
        tokio::spawn(Arc::clone(&recording).keep_writing(failed));
        Ok(Some(recording))
    }
}

/// The prefetch of an image's profile.
pub struct FetchAhead<'a> {
    /// The image to prefetch.
    pub image: &'a Arc<Image>,
    /// Grants slots to prefetches.
    pub scheduler: &'a Arc<Scheduler>,
    /// The reads so far.
    pub reads: &'a Arc<FirstReads>,
    /// Its verified head and index.
    pub opened: &'a Opened,
    /// Its mirrors.
    pub stores: &'a [Arc<dyn Fetch>],
    /// Its disk cache, if any.
    pub cache: Option<&'a Cache>,
    /// The profile; if `None`, it is looked up in the background.
    pub profile: Option<Profile>,
    /// Whether the profile may be read from the cache and stored there, by path, at any time.
    pub may_open_cache: bool,
    /// Progress of the prefetch.
    pub counts: Arc<ProfileCounts>,
    /// Receives problems with the profile.
    pub observer: &'a Arc<dyn Observer>,
}

impl FetchAhead<'_> {
    /// Starts, as `options` specify.
    pub fn start(self, options: &ProfileOptions) {
        if !options.fetch {
            return;
        }
        self.scheduler.limit(options.jobs, options.rate);
        let room = match self.cache {
            Some(Cache { disk, options, .. }) => {
                Room::Disk(Arc::clone(disk), options.max_bytes - options.max_bytes / DISK_PART)
            }
            None => Room::Ram(self.image.expected_max_bytes()),
        };
        let ahead =
            ProfilePrefetch::new(Arc::clone(self.image), Arc::clone(self.scheduler), Arc::clone(self.reads), room);
        let ahead = ahead.counting(self.counts);
        let (opened, stores, observer) = (self.opened.clone(), self.stores.to_vec(), Arc::clone(self.observer));
        let kept = self.cache.filter(|_| self.may_open_cache).map(|cache| cache.kept.clone());
        tokio::spawn(async move {
            let profile = match self.profile {
                Some(profile) => Some(profile),
                None => own_profile(&opened, &stores, kept.as_ref(), FETCHED_MAX_BYTES, &*observer).await,
            };
            if let Some(profile) = profile {
                ahead.run(&profile.blocks_of(&opened.index)).await;
            }
        });
    }
}

/// Returns the profile named by the head, if the local mirror has it.
pub async fn kept_profile(opened: &Opened, kept: &LocalMirror) -> Option<Profile> {
    let row = Profile::row_in(&opened.head, opened.row.version).filter(|row| row.bytes <= FETCHED_MAX_BYTES)?;
    read_kept(row, kept).await
}

async fn read_kept(row: &FileRow, kept: &LocalMirror) -> Option<Profile> {
    Profile::parse(&repo::file(&*kept.store(), row).await.ok()?).ok()
}

/// Returns the profile named by the head, from the local mirror or from `stores`; stores it in the local mirror.
pub async fn own_profile(
    opened: &Opened,
    stores: &[Arc<dyn Fetch>],
    kept: Option<&LocalMirror>,
    max_bytes: u64,
    observer: &dyn Observer,
) -> Option<Profile> {
    let row = Profile::row_in(&opened.head, opened.row.version)?;
    let found = match kept {
        Some(kept) if row.bytes <= max_bytes => read_kept(row, kept).await,
        _ => None,
    };
    if found.is_some() {
        return found;
    }
    let unusable = |what: String| observer.notice(Notice::ProfileUnusable { what });
    let file = match repo::file_from(stores, row, max_bytes).await {
        Ok(file) => file,
        Err(why) => {
            unusable(format!("nothing is fetched ahead: {why}"));
            return None;
        }
    };
    if let Some(Err(e)) = kept.map(|kept| kept.keep_file(&row.path, &file)) {
        unusable(format!("{} is not kept: {e}", row.path));
    }
    Profile::parse(&file).map_err(|e| unusable(format!("{}: {e}", row.path))).ok()
}
