//! Downloads blocks into the disk cache, and makes sure that they are there.
//!
//! Existing files are read and verified, so a second run completes the first and repairs bad files. A block counts as
//! present only when its file exists.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::task::JoinSet;

use super::image::Image;
use super::source::disk_cache::DiskStore;
use crate::error::{Error, ErrorKind};
use crate::repo::ReadError;

/// How long the last files may take to reach the disk.
const SETTLE: Duration = Duration::from_secs(60);
/// Rounds over blocks that a slow disk did not store.
const ROUNDS_MAX: usize = 5;

/// A download of blocks to disk.
#[derive(Debug)]
pub struct Download {
    image: Arc<Image>,
    disk: Arc<DiskStore>,
    jobs: usize,
    counts: DownloadCounts,
}

/// Progress of a download.
#[derive(Debug, Default)]
pub struct DownloadCounts {
    /// Number of blocks present.
    pub blocks: AtomicU64,
    /// Their compressed size in bytes.
    pub bytes: AtomicU64,
}

/// Why a download failed.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// No source has a block.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk does not store what it is given.
    #[error(
        "{missing} of {blocks} blocks did not stay in the cache: is its disk full or too slow, or --cache-size too small \
         for what else is in it?"
    )]
    NotKept {
        /// Number of blocks missing.
        missing: usize,
        /// Number of blocks requested.
        blocks: usize,
    },
}

impl Download {
    /// Downloads blocks of `image` into `disk`, its cache, `jobs` at a time.
    pub fn new(image: Arc<Image>, disk: Arc<DiskStore>, jobs: usize) -> Self {
        Self { image, disk, jobs: jobs.max(1), counts: DownloadCounts::default() }
    }

    /// The progress.
    pub fn counts(&self) -> &DownloadCounts {
        &self.counts
    }

    /// Downloads `blocks`; those fetched before an error stay.
    ///
    /// # Errors
    /// See [`DownloadError`].
    pub async fn run(&self, blocks: &[u32]) -> Result<(), DownloadError> {
        let mut missing = blocks.to_vec();
        for _ in 0..ROUNDS_MAX {
            self.fetch(&missing).await?;
            self.disk.settle(SETTLE).await;
            missing = self.missing(blocks).await;
            if missing.is_empty() {
                return Ok(());
            }
            // The last block is still in RAM and would not be written again: read another one, which evicts it.
            if let Some(&other) = blocks.iter().find(|block| !missing.contains(block)) {
                self.image.fetch(other).await?;
            }
        }
        Err(DownloadError::NotKept { missing: missing.len(), blocks: blocks.len() })
    }

    async fn fetch(&self, blocks: &[u32]) -> Result<(), ReadError> {
        let mut running = JoinSet::new();
        let mut blocks = blocks.iter().copied();
        loop {
            for block in blocks.by_ref().take(self.jobs - running.len()) {
                let image = Arc::clone(&self.image);
                running.spawn(async move { image.fetch(block).await.map(|()| block) });
            }
            match running.join_next().await {
                None => return Ok(()),
                Some(Ok(fetched)) => self.count(fetched?),
                Some(Err(e)) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
                Some(Err(_)) => return Err(ReadError::no_source()),
            }
        }
    }

    fn count(&self, block: u32) {
        self.counts.blocks.fetch_add(1, Relaxed);
        self.counts.bytes.fetch_add(self.image.map().row(block).zlib_bytes.into(), Relaxed);
    }

    /// Those of `blocks` that have no file.
    async fn missing(&self, blocks: &[u32]) -> Vec<u32> {
        let (image, disk, blocks) = (Arc::clone(&self.image), Arc::clone(&self.disk), blocks.to_vec());
        let look = move || blocks.iter().copied().filter(|&block| !disk.holds(image.map().row(block))).collect();
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}

impl From<DownloadError> for Error {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::Read(error) => error.into(),
            error => Self::caused(ErrorKind::Local, error),
        }
    }
}
