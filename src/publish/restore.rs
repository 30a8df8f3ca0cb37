//! `restore`: an image back out of a repository, sparse and checked; what a seed image has is not downloaded.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustix::fs::FallocateFlags;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::cores;
use super::error::Error;
use super::image::Image;
use super::progress::{Event, Progress};
use crate::block::Block;
use crate::digest::BlockId;
use crate::index::{From, Index};
use crate::read::{BlockSource, Opened};
use crate::split::{Rule, RuleError};

/// Blocks fetched at once.
const FETCHES: usize = 16;

/// What is to be restored, and to where.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// A file that does not exist yet (or may be replaced), or a block device.
    pub out: PathBuf,
    /// Images whose blocks need not be downloaded.
    pub seeds: Vec<PathBuf>,
    /// Replaces a file that is there already.
    pub force: bool,
    /// Cores to use.
    pub jobs: usize,
}

/// What was restored.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreReport {
    /// The image's name.
    pub image: String,
    /// The version.
    pub version: u32,
    /// Bytes of the image.
    pub size: u64,
    /// Bytes of blocks found in seeds.
    pub seed_bytes: u64,
    /// Blocks fetched.
    pub fetched_blocks: u64,
    /// Bytes of their files, as the index gives them.
    pub fetched_zlib_bytes: u64,
    /// Bytes in holes.
    pub hole_bytes: u64,
    /// Seconds from start to end.
    pub seconds: f64,
}

/// Restores the image that `opened` describes from `source`.
///
/// A file appears under its name only once it is complete.
///
/// # Errors
/// An output that cannot be written, a block that no source has.
pub async fn restore(
    opened: &Opened,
    source: Arc<dyn BlockSource>,
    options: RestoreOptions,
    progress: Arc<dyn Progress>,
    cancel: Arc<AtomicBool>,
) -> Result<RestoreReport, Error> {
    let started = Instant::now();
    let index = Arc::clone(&opened.index);
    let out = Arc::new(Output::create(&options, index.size())?);
    out.zero_holes(&index)?;
    progress.event(Event::Start { image_bytes: Some(index.size()) });
    progress.event(Event::Restored { bytes: index.hole_bytes() });
    let work = Arc::new(Work { places: Places::of(&index), index, out, done: Mutex::default(), progress, cancel });
    let seed_bytes = take_seeds(&work, options.seeds, options.jobs).await?;
    let (fetched_blocks, fetched_zlib_bytes) = fetch_rest(&work, source).await?;
    work.out.finish()?;
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

struct Work {
    index: Arc<Index>,
    places: Places,
    out: Arc<Output>,
    done: Mutex<Vec<bool>>,
    progress: Arc<dyn Progress>,
    cancel: Arc<AtomicBool>,
}

/// Where each block goes: runs of (place in the image, offset in the block, bytes), by block.
struct Places {
    first: Vec<u32>,
    runs: Vec<(u64, u32, u32)>,
}

impl Places {
    fn of(index: &Index) -> Self {
        let mut at = 0;
        let mut by_block = Vec::with_capacity(index.extents().len());
        for extent in index.extents() {
            if let From::Block { block, offset } = extent.from {
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
    /// Writes a block to all its places, unless that was done already; returns the bytes of the image it covers.
    fn write(&self, block: usize, bytes: &Block) -> Result<u64, Error> {
        if std::mem::replace(&mut self.done.lock().unwrap_or_else(PoisonError::into_inner)[block], true) {
            return Ok(0);
        }
        let mut written = 0;
        for &(at, offset, length) in self.places.of_block(block) {
            self.out.write(&bytes[offset as usize..(offset + length) as usize], at)?;
            written += u64::from(length);
        }
        self.progress.event(Event::Restored { bytes: written });
        Ok(written)
    }

    fn cancelled(&self) -> Result<(), Error> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::interrupted());
        }
        Ok(())
    }
}

/// Cuts each seed as the image was cut, and takes the blocks that the image has too.
async fn take_seeds(work: &Arc<Work>, seeds: Vec<PathBuf>, jobs: usize) -> Result<u64, Error> {
    work.done.lock().unwrap_or_else(PoisonError::into_inner).resize(work.index.blocks().len(), false);
    let work = Arc::clone(work);
    let pass = tokio::task::spawn_blocking(move || {
        let wanted: HashMap<BlockId, usize> =
            work.index.blocks().iter().enumerate().map(|(i, row)| (row.id, i)).collect();
        seeds.iter().try_fold(0, |sum, seed| take_seed(&work, &wanted, seed, jobs).map(|bytes| sum + bytes))
    });
    pass.await.map_err(|e| Error::local(e.to_string()))?
}

fn take_seed(work: &Work, wanted: &HashMap<BlockId, usize>, seed: &Path, jobs: usize) -> Result<u64, Error> {
    let rule = Rule::try_from(&work.index.header().split).map_err(|e| unknown_rule(seed, &e))?;
    let image = Image::open(seed)?;
    let found = AtomicU64::new(0);
    cores::work_on_blocks(
        &image,
        rule,
        jobs,
        &work.cancel,
        &|_| {},
        || (),
        |(), cut| {
            let Some(&block) = wanted.get(&BlockId::of(&cut.bytes)) else { return Ok(()) };
            if let Some(bytes) = Block::from_raw(&work.index.blocks()[block], &cut.bytes) {
                found.fetch_add(work.write(block, &bytes)?, Ordering::Relaxed);
            }
            Ok(())
        },
    )?;
    Ok(found.into_inner())
}

fn unknown_rule(seed: &Path, why: &RuleError) -> Error {
    Error::local(format!("{}: a seed must be cut as the image was: {why}", seed.display()))
        .hint("without --seed the image is restored all the same, from the mirror alone")
}

/// Fetches every block that is not there yet; returns how many, and the bytes of their files.
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

/// The file or device that is written.
struct Output {
    file: File,
    path: PathBuf,
    /// The name it gets when it is complete; none for a device.
    rename_to: Option<PathBuf>,
    finished: AtomicBool,
}

impl Output {
    fn create(options: &RestoreOptions, size: u64) -> Result<Self, Error> {
        let path = options.out.clone();
        let existing = std::fs::metadata(&path).ok();
        if existing.as_ref().is_some_and(|m| m.file_type().is_block_device()) {
            return Self::device(path, size);
        }
        if existing.as_ref().is_some_and(|m| !m.is_file()) {
            return Err(Error::local(format!("{}: neither a file nor a block device", path.display())));
        }
        if existing.is_some() && !options.force {
            return Err(Error::local(format!("{}: exists already", path.display())).hint("replace it with --force"));
        }
        let mut partial = path.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::options().write(true).create(true).truncate(true).open(&partial);
        let file = file.map_err(|e| Error::io(&partial, &e))?;
        file.set_len(size).map_err(|e| Error::io(&partial, &e))?;
        Ok(Self { file, path: partial, rename_to: Some(path), finished: false.into() })
    }

    fn device(path: PathBuf, size: u64) -> Result<Self, Error> {
        use std::io::{Seek as _, SeekFrom};
        let file = File::options().write(true).open(&path);
        let mut file = file.map_err(|e| Error::io(&path, &e))?;
        let room = file.seek(SeekFrom::End(0)).map_err(|e| Error::io(&path, &e))?;
        if room < size {
            return Err(Error::local(format!("{}: has {room} bytes, the image needs {size}", path.display())));
        }
        Ok(Self { file, path, rename_to: None, finished: false.into() })
    }

    /// A new file is all holes; on a device they must be written.
    fn zero_holes(&self, index: &Index) -> Result<(), Error> {
        let mut at = 0;
        for extent in index.extents() {
            if extent.from == From::Hole && self.rename_to.is_none() {
                self.zero(at, extent.bytes)?;
            }
            at += extent.bytes;
        }
        Ok(())
    }

    fn zero(&self, at: u64, bytes: u64) -> Result<(), Error> {
        if rustix::fs::fallocate(&self.file, FallocateFlags::ZERO_RANGE, at, bytes).is_ok() {
            return Ok(());
        }
        let zeros = vec![0; 1 << 20];
        let mut done = 0;
        while done < bytes {
            let length = (bytes - done).min(zeros.len() as u64) as usize;
            self.write(&zeros[..length], at + done)?;
            done += length as u64;
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<(), Error> {
        self.file.write_all_at(bytes, at).map_err(|e| Error::io(&self.path, &e))
    }

    fn finish(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(|e| Error::io(&self.path, &e))?;
        if let Some(name) = &self.rename_to {
            std::fs::rename(&self.path, name).map_err(|e| Error::io(name, &e))?;
        }
        self.finished.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.rename_to.is_some() && !*self.finished.get_mut() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
