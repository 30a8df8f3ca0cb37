//! Fetches blocks into the disk cache ahead of time, as many as are asked for, and makes sure that they are there.
//!
//! What is there already is read and checked rather than believed, so a second run finishes the first and heals what is
//! bad. Nothing counts as there before its file is.

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
/// Rounds over what a slow disk did not take the first time.
const ROUNDS_MAX: usize = 5;

/// Blocks on their way to the disk.
#[derive(Debug)]
pub struct Download {
    image: Arc<Image>,
    disk: Arc<DiskStore>,
    jobs: usize,
    counts: DownloadCounts,
}

/// How far a download has got.
#[derive(Debug, Default)]
pub struct DownloadCounts {
    /// Blocks that are there.
    pub blocks: AtomicU64,
    /// The bytes of their files.
    pub bytes: AtomicU64,
}

/// Why a download has failed.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// A block can be had from nowhere.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk does not keep what it is given.
    #[error("{missing} of {blocks} blocks did not stay in the cache; is its disk full, or too slow?")]
    NotKept {
        /// Blocks that are not there.
        missing: usize,
        /// Blocks that were asked for.
        blocks: usize,
    },
}

impl Download {
    /// Fetches blocks of `image` into `disk`, which is its cache, `jobs` at a time.
    pub fn new(image: Arc<Image>, disk: Arc<DiskStore>, jobs: usize) -> Self {
        Self { image, disk, jobs: jobs.max(1), counts: DownloadCounts::default() }
    }

    /// How far it has got.
    pub fn counts(&self) -> &DownloadCounts {
        &self.counts
    }

    /// Fetches `blocks`; those that were fetched before an error stay.
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
            // The block that came last is in RAM: another one takes its place, so that it is fetched again.
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
