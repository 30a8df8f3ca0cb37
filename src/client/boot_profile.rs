//! What a boot reads: recording it, and fetching it ahead the next time.

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

/// The largest profile that is fetched without being asked for, in bytes.
const FETCHED_MAX_BYTES: u64 = 8 << 20;
/// The part of the disk cache that is not filled ahead.
const DISK_PART: u64 = 8;

/// What is done about the blocks that a boot reads.
#[derive(Debug, Clone)]
pub struct ProfileOptions {
    /// The file to which it is recorded which blocks are read.
    pub record: Option<PathBuf>,
    /// The profile of which blocks are fetched ahead, instead of the image's own.
    pub given: Option<Profile>,
    /// Whether blocks of a profile are fetched ahead.
    pub fetch: bool,
    /// Blocks fetched ahead at the same time, at most.
    pub jobs: u32,
    /// The most that is fetched ahead in a second, in bytes.
    pub rate: Option<u64>,
}

impl ProfileOptions {
    /// Nothing is recorded or fetched ahead.
    pub fn none() -> Self {
        Self { record: None, given: None, fetch: false, jobs: JOBS, rate: None }
    }

    /// Whether reads have to be noted.
    pub fn wants_reads(&self, has_disk: bool) -> bool {
        self.record.is_some() || (self.fetch && !has_disk)
    }

    /// Begins to record, if that is wanted.
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

/// An image whose profile is to be fetched ahead.
pub struct FetchAhead<'a> {
    /// The image.
    pub image: &'a Arc<Image>,
    /// Where what is fetched in advance waits for its turn.
    pub scheduler: &'a Arc<Scheduler>,
    /// Which blocks were read.
    pub reads: &'a Arc<FirstReads>,
    /// What it is.
    pub opened: &'a Opened,
    /// Where it comes from.
    pub stores: &'a [Arc<dyn Fetch>],
    /// Its disk cache.
    pub cache: Option<&'a Cache>,
    /// The profile; without one, it is looked for in the background.
    pub profile: Option<Profile>,
    /// Whether a profile may be looked for in the cache, and kept there, by its path at any time.
    pub may_open_cache: bool,
    /// Where it is counted what is fetched ahead.
    pub counts: Arc<ProfileCounts>,
    /// Who is told.
    pub observer: &'a Arc<dyn Observer>,
}

impl FetchAhead<'_> {
    /// Begins, as `options` have it.
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

/// The profile that the head names, if it is kept.
pub async fn kept_profile(opened: &Opened, kept: &LocalMirror) -> Option<Profile> {
    let row = Profile::row_in(&opened.head, opened.row.version).filter(|row| row.bytes <= FETCHED_MAX_BYTES)?;
    read_kept(row, kept).await
}

async fn read_kept(row: &FileRow, kept: &LocalMirror) -> Option<Profile> {
    Profile::parse(&repo::file(&*kept.store(), row).await.ok()?).ok()
}

/// The profile that the head names, from the cache or from whoever has it; kept in the cache.
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
