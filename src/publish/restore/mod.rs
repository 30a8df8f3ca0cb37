//! `restore`: writes an image to a sparse file or device, verified.
//!
//! What lies in the output already is used: blocks of a partial file that an earlier run left, and in place those of the
//! old content, wherever they lie. Only contents count, no record of them, so a run may be killed at any moment, and any
//! later run ends right. The order of the steps: look at what is there; move blocks; zero holes; take from seeds;
//! download; flush and read back; rename. Old content is overwritten only after all that is needed of it has moved.

mod each;
mod fetch;
mod flush;
mod look;
mod moves;
mod moving;
mod old_content;
mod open;
mod output;
mod read_back;
mod saved_bases;
mod seeds;
mod work;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::Error;
use crate::progress::{Event, Origin, Phase, Watch};
use crate::repo::{BlockSource, Opened};
use fetch::Fetching;
use flush::Flusher;
use work::Work;

pub use saved_bases::SavedBases;

/// Concurrent downloads by default.
pub const FETCHES: usize = 16;

/// Options of a restore.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Output path: a file that does not exist yet (or may be replaced), or a block device.
    pub out: PathBuf,
    /// Seed images, whose blocks need not be downloaded.
    pub seeds: Vec<PathBuf>,
    /// Whether to replace an existing file, or the contents of the device.
    pub force: bool,
    /// Whether to change an existing file or device, and use its old content.
    pub in_place: bool,
    /// Whether to ignore what an earlier run left.
    pub restart: bool,
    /// Whether to read back what was written.
    pub verify: bool,
    /// How long nothing may arrive before a failure ends it.
    pub timeout: Duration,
    /// Where to save blocks of old versions that deltas need.
    pub bases: Option<Arc<SavedBases>>,
    /// Number of concurrent downloads.
    pub fetches: usize,
    /// Number of worker threads.
    pub jobs: usize,
}

impl RestoreOptions {
    /// A new file, or a blank device.
    pub fn new(out: PathBuf) -> Self {
        Self {
            out,
            seeds: Vec::new(),
            force: false,
            in_place: false,
            restart: false,
            verify: true,
            timeout: Duration::from_secs(60),
            bases: None,
            fetches: FETCHES,
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// Result of a restore.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreReport {
    /// Image name.
    pub image: String,
    /// Version number.
    pub version: u32,
    /// Image size in bytes.
    pub size: u64,
    /// SHA-256 of the image as the publisher signed it, if it was published with one.
    pub image_sha256: Option<String>,
    /// Image bytes that lay in the output already.
    pub kept_bytes: u64,
    /// Image bytes moved within the old content of the output.
    pub moved_bytes: u64,
    /// Image bytes taken from seeds.
    pub seed_bytes: u64,
    /// Image bytes downloaded.
    pub fetched_bytes: u64,
    /// Number of blocks downloaded.
    pub fetched_blocks: u64,
    /// Compressed size of the downloaded blocks according to the index, in bytes.
    pub fetched_zlib_bytes: u64,
    /// Number of these that were made from deltas.
    pub delta_blocks: u64,
    /// Size of these deltas, in bytes.
    pub delta_bytes: u64,
    /// By how much the whole blocks are larger, in bytes.
    pub delta_saved_bytes: u64,
    /// Bytes in holes.
    pub hole_bytes: u64,
    /// Bytes written to the output, zeros included.
    pub written_bytes: u64,
    /// Bytes read back and compared.
    pub read_back_bytes: u64,
    /// Total duration in seconds.
    pub seconds: f64,
}

/// Restores the image that `opened` describes from `source`.
///
/// A file appears under its name only once it is complete.
///
/// # Errors
/// An output that cannot be written, or does not keep what is written; a block that no source has.
pub async fn restore(
    opened: &Opened,
    source: Arc<dyn BlockSource>,
    options: &RestoreOptions,
    watch: &Watch,
) -> Result<RestoreReport, Error> {
    let started = Instant::now();
    let index = Arc::clone(&opened.index);
    let out = open::open(options, index.size())?;
    let work = Arc::new(Work::new(index, out, options.bases.clone(), watch.clone()));
    let filled = tokio::select! {
        filled = fill(&work, source, options) => filled,
        // Needed because a source may be slow to respond.
        () = work.wait_for_cancel() => Err(work.interrupted()),
    };
    let filled = filled.map_err(|error| failed(&work, error))?;
    let bytes = |origin| work.counts.bytes(origin);
    Ok(RestoreReport {
        image: opened.head.image.to_string(),
        version: opened.row.version.number(),
        size: work.index.size(),
        image_sha256: opened.head.image_sha256(opened.row.version).map(|sha256| sha256.to_string()),
        kept_bytes: bytes(Origin::Kept),
        moved_bytes: bytes(Origin::Moved),
        seed_bytes: bytes(Origin::Seed),
        fetched_bytes: bytes(Origin::Fetched),
        fetched_blocks: filled.fetched_blocks,
        fetched_zlib_bytes: filled.fetched_zlib_bytes,
        delta_blocks: 0,
        delta_bytes: 0,
        delta_saved_bytes: 0,
        hole_bytes: work.index.hole_bytes(),
        written_bytes: work.counts.written(),
        read_back_bytes: filled.read_back_bytes,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Tells how to continue after an error, unless it has better advice.
fn failed(work: &Work, error: Error) -> Error {
    work.out.discard_empty();
    let advice = error.advice().map(str::to_owned).or_else(|| work.out.how_to_continue());
    error.hint_if(advice)
}

struct Filled {
    fetched_blocks: u64,
    fetched_zlib_bytes: u64,
    read_back_bytes: u64,
}

/// Makes the output the image.
async fn fill(work: &Arc<Work>, source: Arc<dyn BlockSource>, options: &RestoreOptions) -> Result<Filled, Error> {
    work.watch.progress.event(Event::Start { image_bytes: Some(work.index.size()) });
    let flusher = Flusher::start(work);
    let (jobs, force) = (options.jobs, options.force);
    let zeroed = blocking(work, move |work| use_old_content(work, jobs, force)).await?;
    if !options.seeds.is_empty() {
        work.enter(Phase::Seed);
        let seeds = options.seeds.clone();
        let take = move |work: &Work| seeds.iter().try_for_each(|seed| seeds::take_seed(work, seed, jobs));
        blocking(work, take).await?;
    }
    work.enter(Phase::Fetch);
    let fetching = Fetching { at_once: options.fetches, timeout: options.timeout };
    let (fetched_blocks, fetched_zlib_bytes) = fetch::fetch_missing(work, source, fetching).await?;
    let verify = options.verify;
    let read_back_bytes = blocking(work, move |work| {
        flusher.stop()?;
        work.out.sync(work.index.size())?;
        let bytes = if verify { read_back::read_back(work, &zeroed, jobs)? } else { 0 };
        work.out.finish().map(|()| bytes)
    });
    Ok(Filled { fetched_blocks, fetched_zlib_bytes, read_back_bytes: read_back_bytes.await? })
}

async fn blocking<T: Send + 'static>(
    work: &Arc<Work>,
    run: impl FnOnce(&Work) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let work = Arc::clone(work);
    tokio::task::spawn_blocking(move || run(&work)).await.map_err(|e| Error::local(e.to_string()))?
}

/// Keeps and moves what lies in the output, and zeroes the holes of the image; returns what was zeroed.
fn use_old_content(work: &Work, jobs: usize, force: bool) -> Result<Vec<Range<u64>>, Error> {
    if work.out.old_bytes() > 0 {
        work.enter(Phase::Check);
        let found = old_content::look_through(work, jobs)?;
        let has_bases = work.bases.as_ref().is_some_and(|bases| !bases.is_empty());
        let is_known = has_bases || !found.is_empty() || work.counts.bytes(Origin::Kept) > 0;
        if work.out.is_in_place() && !is_known && !force {
            refuse_foreign(work)?;
        }
        moving::move_found(work, found, jobs)?;
    }
    let mut zeroed = Vec::new();
    for hole in work.places.holes() {
        work.check_cancelled()?;
        let bytes = hole.end - hole.start;
        let done = work.out.zero(hole)?;
        work.wrote(done.iter().map(|range| range.end - range.start).sum());
        zeroed.extend(done);
        work.came(bytes, Origin::Hole);
    }
    Ok(zeroed)
}

/// Refuses to change something in place in which there is nothing of the image: probably another disk was meant.
fn refuse_foreign(work: &Work) -> Result<(), Error> {
    let (path, bytes) = (work.out.path(), work.out.old_bytes());
    if open::is_blank(work.out.file(), bytes).map_err(|e| Error::io(path, &e))? {
        return Ok(());
    }
    let image = &work.index.header().image;
    let error = Error::local(format!("{}: nothing of {image} is on it, but something else is", path.display()));
    Err(error.hint("is it the right one? With --force, it is overwritten"))
}
