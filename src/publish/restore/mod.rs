//! `restore`: writes an image from a repository to a sparse file or device, verified; seed blocks are not downloaded.

mod output;

use std::collections::HashMap;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::pipeline::image::{self, Reading};
use super::pipeline::workers;
use crate::disk::input::Input;
use crate::error::Error;
use crate::format::block::Block;
use crate::format::digest::Sha256;
use crate::format::index::{ExtentSource, Index};
use crate::progress::{Event, Watch};
use crate::repo::{BlockSource, Opened};
use crate::split::{Rule, RuleError};
use output::Output;

/// Concurrent block downloads.
const FETCHES: usize = 16;
/// Interval of the checks whether the user cancelled.
const CANCEL_PAUSE: Duration = Duration::from_millis(50);

/// Options of a restore.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Output path: a file that does not exist yet (or may be replaced), or a block device.
    pub out: PathBuf,
    /// Seed images, whose blocks need not be downloaded.
    pub seeds: Vec<PathBuf>,
    /// Whether to replace an existing file, or the contents of the device.
    pub force: bool,
    /// Number of worker threads.
    pub jobs: usize,
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
    /// Image bytes taken from seeds.
    pub seed_bytes: u64,
    /// Number of blocks downloaded.
    pub fetched_blocks: u64,
    /// Compressed size of the downloaded blocks according to the index, in bytes.
    pub fetched_zlib_bytes: u64,
    /// Bytes in holes.
    pub hole_bytes: u64,
    /// Total duration in seconds.
    pub seconds: f64,
}

/// Restores the image that `opened` describes from `source`.
///
/// A file appears under its name only once it is complete.
///
/// # Errors
/// An output that cannot be written; a block that no source has.
pub async fn restore(
    opened: &Opened,
    source: Arc<dyn BlockSource>,
    options: &RestoreOptions,
    watch: &Watch,
) -> Result<RestoreReport, Error> {
    let started = Instant::now();
    let index = Arc::clone(&opened.index);
    let out = Arc::new(Output::create(options, index.size())?);
    let places = Places::of(&index);
    let work = Arc::new(Work { places, index, out, done: Mutex::default(), watch: watch.clone() });
    let filled = tokio::select! {
        filled = fill(&work, source, options.clone()) => filled,
        // Needed because a source may be slow to respond.
        () = work.wait_for_cancel() => Err(Error::interrupted()),
    };
    if filled.is_err() {
        work.out.discard();
    }
    let (seed_bytes, fetched_blocks, fetched_zlib_bytes) = filled?;
    Ok(RestoreReport {
        image: opened.head.image.to_string(),
        version: opened.row.version.number(),
        size: work.index.size(),
        seed_bytes,
        fetched_blocks,
        fetched_zlib_bytes,
        hole_bytes: work.index.hole_bytes(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Writes everything; returns the bytes from seeds, the number of downloaded blocks and their compressed size.
async fn fill(
    work: &Arc<Work>,
    source: Arc<dyn BlockSource>,
    options: RestoreOptions,
) -> Result<(u64, u64, u64), Error> {
    work.out.zero_holes(&work.index)?;
    work.watch.progress.event(Event::Start { image_bytes: Some(work.index.size()) });
    work.watch.progress.event(Event::Restored { bytes: work.index.hole_bytes() });
    let seed_bytes = take_seeds(work, options.seeds, options.jobs).await?;
    let (fetched_blocks, fetched_zlib_bytes) = fetch_rest(work, source).await?;
    work.out.finish()?;
    Ok((seed_bytes, fetched_blocks, fetched_zlib_bytes))
}

struct Work {
    index: Arc<Index>,
    places: Places,
    out: Arc<Output>,
    done: Mutex<Vec<bool>>,
    watch: Watch,
}

/// Where each block is written: runs of (offset in the image, offset in the block, bytes), grouped by block.
struct Places {
    first: Vec<u32>,
    runs: Vec<(u64, u32, u32)>,
}

impl Places {
    fn of(index: &Index) -> Self {
        let mut at = 0;
        let mut by_block = Vec::with_capacity(index.extents().len());
        for extent in index.extents() {
            if let ExtentSource::Block { block, offset } = extent.from {
                by_block.push((block, at, offset, extent.bytes as u32));
            }
            at += extent.bytes;
        }
        by_block.sort_unstable();
        let mut first = vec![0; index.blocks().len() + 1];
        for (block, ..) in &by_block {
            first[*block as usize + 1] += 1;
        }
        for i in 1..first.len() {
            first[i] += first[i - 1];
        }
        Self { first, runs: by_block.into_iter().map(|(_, at, offset, bytes)| (at, offset, bytes)).collect() }
    }

    fn of_block(&self, block: usize) -> &[(u64, u32, u32)] {
        &self.runs[self.first[block] as usize..self.first[block + 1] as usize]
    }
}

impl Work {
    /// Writes a block to all its places unless already done; returns the image bytes written.
    fn write(&self, block: usize, bytes: &Block) -> Result<u64, Error> {
        if std::mem::replace(&mut self.done.lock().unwrap_or_else(PoisonError::into_inner)[block], true) {
            return Ok(0);
        }
        let mut written = 0;
        for &(at, offset, length) in self.places.of_block(block) {
            self.out.write(&bytes[offset as usize..(offset + length) as usize], at)?;
            written += u64::from(length);
        }
        self.watch.progress.event(Event::Restored { bytes: written });
        Ok(written)
    }

    async fn wait_for_cancel(&self) {
        while !self.watch.cancel.load(Ordering::Relaxed) {
            tokio::time::sleep(CANCEL_PAUSE).await;
        }
    }

    fn cancelled(&self) -> Result<(), Error> {
        if self.watch.cancel.load(Ordering::Relaxed) {
            return Err(Error::interrupted());
        }
        Ok(())
    }
}

/// Cuts each seed by the image's split rule, and writes the blocks that the image contains too.
async fn take_seeds(work: &Arc<Work>, seeds: Vec<PathBuf>, jobs: usize) -> Result<u64, Error> {
    work.done.lock().unwrap_or_else(PoisonError::into_inner).resize(work.index.blocks().len(), false);
    let work = Arc::clone(work);
    let pass = tokio::task::spawn_blocking(move || {
        let wanted: HashMap<Sha256, usize> =
            work.index.blocks().iter().enumerate().map(|(i, row)| (row.sha256, i)).collect();
        seeds.iter().try_fold(0, |sum, seed| take_seed(&work, &wanted, seed, jobs).map(|bytes| sum + bytes))
    });
    pass.await.map_err(|e| Error::local(e.to_string()))?
}

fn take_seed(work: &Work, wanted: &HashMap<Sha256, usize>, seed: &Path, jobs: usize) -> Result<u64, Error> {
    let rule = Rule::try_from(&work.index.header().split).map_err(|e| unknown_rule(seed, &e))?;
    let image = image::for_rule(Input::open(seed)?, rule, &work.watch.silenced())?;
    let found = AtomicU64::new(0);
    workers::work_on_blocks(
        &image,
        Reading::exact(rule),
        jobs,
        &work.watch.cancel,
        &|_| {},
        || (),
        |(), cut| {
            let (sha256, bytes) = Block::of(cut.bytes);
            let Some(&block) = wanted.get(&sha256) else { return Ok(()) };
            found.fetch_add(work.write(block, &bytes)?, Ordering::Relaxed);
            Ok(())
        },
    )?;
    Ok(found.into_inner())
}

fn unknown_rule(seed: &Path, why: &RuleError) -> Error {
    Error::local(format!("{}: a seed must be cut as the image was: {why}", seed.display()))
        .hint("without --seed, all blocks are downloaded")
}

/// Downloads every block not written yet; returns their number and compressed size.
async fn fetch_rest(work: &Arc<Work>, source: Arc<dyn BlockSource>) -> Result<(u64, u64), Error> {
    let done = work.done.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let room = Arc::new(Semaphore::new(FETCHES));
    let mut running: JoinSet<Result<(), Error>> = JoinSet::new();
    let (mut blocks, mut zlib_bytes) = (0, 0);
    for block in (0..done.len()).filter(|&block| !done[block]) {
        while let Some(finished) = running.try_join_next() {
            finished.map_err(|e| Error::local(e.to_string()))??;
        }
        work.cancelled()?;
        blocks += 1;
        zlib_bytes += u64::from(work.index.blocks()[block].zlib_bytes);
        let permit = Arc::clone(&room).acquire_owned().await;
        let (work, source) = (Arc::clone(work), Arc::clone(&source));
        running.spawn(async move {
            let _permit = permit;
            let bytes = source.block(&work.index.blocks()[block]).await?;
            let written = tokio::task::spawn_blocking(move || work.write(block, &bytes)).await;
            written.map_err(|e| Error::local(e.to_string()))?.map(drop)
        });
    }
    while let Some(finished) = running.join_next().await {
        finished.map_err(|e| Error::local(e.to_string()))??;
    }
    Ok((blocks, zlib_bytes))
}
