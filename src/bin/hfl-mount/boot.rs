//! What a boot reads: recording it, and fetching it ahead the next time.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hfl::client::image::Image;
use hfl::client::prefetch::ahead::{Ahead, AheadCounts, Room};
use hfl::client::prefetch::priority::Gate;
use hfl::client::prefetch::record::{FirstReads, Recording};
use hfl::client::source::JOBS;
use hfl::client::source::disk::DiskStore;
use hfl::client::state::kept::Kept;
use hfl::format::head::FileRow;
use hfl::format::profile::{FILE_MAX_BYTES, Profile};
use hfl::repo;
use hfl::repo::Opened;
use hfl::store::Fetch;

use crate::args::bytes;
use crate::failure::{Failure, LOCAL, USAGE};
use crate::log::Log;

/// The largest profile that is fetched without being asked for, in bytes.
const FETCHED_MAX_BYTES: u64 = 8 << 20;
/// The part of the disk cache that is not filled ahead.
const DISK_PART: u64 = 8;

/// The options for profiles.
#[derive(Debug, clap::Args)]
pub struct BootArgs {
    /// Record which blocks are read, in order and with times, to this file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Fetch the blocks of this profile ahead, instead of those of the image's own
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Fetch nothing ahead of a boot
    #[arg(long, conflicts_with = "profile")]
    no_profile: bool,
    /// Blocks of a profile fetched at the same time, at most
    #[arg(long, value_name = "N", default_value_t = JOBS, value_parser = clap::value_parser!(u32).range(1..=256))]
    jobs: u32,
    /// The most that is fetched ahead in a second: bytes, or with K, M, G
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    rate: Option<u64>,
}

/// An image as it is before it is mounted.
pub struct Booting<'a> {
    /// What it is.
    pub opened: &'a Opened,
    /// Where it comes from.
    pub stores: Vec<Arc<dyn Fetch>>,
    /// Its disk cache, and the most that it may hold, in bytes.
    pub disk: Option<(Arc<DiskStore>, u64)>,
    /// Where its profile is kept, and may be opened at any time.
    pub kept: Option<Kept>,
    /// What was kept of it, where it may not.
    pub found: Option<Profile>,
    /// Where it is counted what is fetched ahead.
    pub counts: Arc<AheadCounts>,
    /// Who is told.
    pub log: &'a Arc<Log>,
}

/// A record that is being written.
pub struct Record(Option<Arc<Recording>>);

impl Record {
    /// Writes what is still to be written.
    pub fn end(&self, log: &Log) {
        if let Some(Err(e)) = self.0.as_ref().map(|recording| recording.write()) {
            log.warn(format_args!("the record of what was read is not complete: {e}"));
        }
    }
}

impl BootArgs {
    /// Whether reads have to be noted.
    fn wants_reads(&self, has_disk: bool) -> bool {
        self.record.is_some() || (!self.no_profile && !has_disk)
    }

    /// The image with its reads noted, where somebody wants to know.
    pub fn noting(&self, image: Image, opened: &Opened, has_disk: bool) -> (Image, Arc<FirstReads>) {
        let reads = FirstReads::new(opened.index.blocks().len());
        match self.wants_reads(has_disk) {
            true => (image.noting(Arc::clone(&reads)), reads),
            false => (image, reads),
        }
    }

    /// Begins to record, if that is wanted.
    pub fn record(&self, reads: &Arc<FirstReads>, booting: &Booting<'_>) -> Result<Record, Failure> {
        let Some(path) = &self.record else { return Ok(Record(None)) };
        let failed = |e| Failure::new(LOCAL, format!("--record {}: {e}", path.display()));
        let path = std::path::absolute(path).map_err(failed)?;
        let recording =
            Recording::start(Arc::clone(reads), Arc::clone(&booting.opened.index), &path).map_err(failed)?;
        let log = Arc::clone(booting.log);
        let failed = move |e| log.warn(format_args!("the record of what is read cannot be written: {e}"));
        tokio::spawn(Arc::clone(&recording).keep_writing(failed));
        Ok(Record(Some(recording)))
    }

    /// Begins to fetch ahead, if there is a profile.
    pub fn fetch_ahead(
        &self,
        image: &Arc<Image>,
        gate: &Arc<Gate>,
        reads: &Arc<FirstReads>,
        booting: &Booting<'_>,
    ) -> Result<(), Failure> {
        if self.no_profile {
            return Ok(());
        }
        gate.limit(self.jobs, self.rate);
        let room = match &booting.disk {
            Some((disk, limit)) => Room::Disk(Arc::clone(disk), limit - limit / DISK_PART),
            None => Room::Ram(image.expected_max_bytes()),
        };
        let ahead = Ahead::new(Arc::clone(image), Arc::clone(gate), Arc::clone(reads), room);
        let ahead = ahead.counting(Arc::clone(&booting.counts));
        let given = self.profile.as_deref().map(given_profile).transpose()?.or(booting.found.clone());
        let (opened, stores, log) = (booting.opened.clone(), booting.stores.clone(), Arc::clone(booting.log));
        let kept = booting.kept.clone();
        tokio::spawn(async move {
            let profile = match given {
                Some(profile) => Some(profile),
                None => own_profile(&opened, &stores, kept.as_ref(), FETCHED_MAX_BYTES, &log).await,
            };
            if let Some(profile) = profile {
                ahead.run(&profile.blocks_of(&opened.index)).await;
            }
        });
        Ok(())
    }
}

/// The profile in a file of the user.
fn given_profile(path: &Path) -> Result<Profile, Failure> {
    let failed = |code, why: &dyn std::fmt::Display| Failure::new(code, format!("--profile {}: {why}", path.display()));
    let mut file = Vec::new();
    let opened = std::fs::File::open(path).map_err(|e| failed(LOCAL, &e))?;
    opened.take(FILE_MAX_BYTES + 1).read_to_end(&mut file).map_err(|e| failed(LOCAL, &e))?;
    Profile::parse(&file).map_err(|e| failed(USAGE, &e))
}

/// The profile that the head names, if it is kept.
pub async fn kept_profile(opened: &Opened, kept: &Kept) -> Option<Profile> {
    let row = Profile::row_in(&opened.head, opened.row.version).filter(|row| row.bytes <= FETCHED_MAX_BYTES)?;
    read_kept(row, kept).await
}

async fn read_kept(row: &FileRow, kept: &Kept) -> Option<Profile> {
    Profile::parse(&repo::file(&*kept.store(), row).await.ok()?).ok()
}

/// The profile that the head names, from the cache or from whoever has it; kept in the cache.
pub async fn own_profile(
    opened: &Opened,
    stores: &[Arc<dyn Fetch>],
    kept: Option<&Kept>,
    max_bytes: u64,
    log: &Log,
) -> Option<Profile> {
    let row = Profile::row_in(&opened.head, opened.row.version)?;
    let found = match kept {
        Some(kept) if row.bytes <= max_bytes => read_kept(row, kept).await,
        _ => None,
    };
    if found.is_some() {
        return found;
    }
    let file = match repo::file_from(stores, row, max_bytes).await {
        Ok(file) => file,
        Err(why) => {
            log.warn(format_args!("nothing is fetched ahead: {why}"));
            return None;
        }
    };
    if let Some(Err(e)) = kept.map(|kept| kept.keep_file(&row.path, &file)) {
        log.warn(format_args!("{} is not kept: {e}", row.path));
    }
    Profile::parse(&file).map_err(|e| log.warn(format_args!("{}: {e}", row.path))).ok()
}
