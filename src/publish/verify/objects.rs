//! Reads and checks one object in full, within a memory budget shared by all mirrors.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::Error;
use crate::format::block::BlockRow;
use crate::format::block::{BadBlock, Block, zlib_max_bytes};
use crate::format::digest::Sha256;
use crate::format::layout::RepoPath;
use crate::repo::survey::{Flaw, ProblemKind};
use crate::store::{Fetch, Freshness, StoreError, StoreErrorKind};
use crate::system::bridge;

/// Bytes of concurrent reads over all mirrors, so that memory use does not grow with the number of mirrors.
const BUDGET_BYTES: u64 = 256 << 20;
/// Bytes per permit of the budget.
const PERMIT_BYTES: u64 = 64 << 10;
/// Delay before a failed read from a public URL is retried.
const SECOND_TRY: Duration = Duration::from_millis(500);

/// Memory budget for objects.
#[derive(Debug)]
pub struct Budget(Semaphore);

impl Default for Budget {
    fn default() -> Self {
        Self(Semaphore::new((BUDGET_BYTES / PERMIT_BYTES) as usize))
    }
}

impl Budget {
    /// Waits for room for an object; an object larger than the budget takes all of it.
    pub async fn room(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let permits = bytes.clamp(1, BUDGET_BYTES).div_ceil(PERMIT_BYTES);
        self.0.acquire_many(permits as u32).await.ok()
    }
}

/// Result of reading an object: its data, or what is wrong with it.
///
/// # Errors
/// The mirror is unreachable.
pub type Examined<T> = Result<Result<T, Flaw>, Error>;

/// Reads an object that must have this size and digest.
pub async fn file(reader: &dyn Fetch, path: &RepoPath, bytes: u64, sha256: &Sha256) -> Examined<Bytes> {
    let file = match reader.get(path, bytes).await {
        Ok(file) => file,
        Err(e) => return Ok(Err(Flaw::of(e)?)),
    };
    Ok(if Sha256::of(&file) == *sha256 {
        Ok(file)
    } else if (file.len() as u64) < bytes {
        let what = format!("{} of {bytes} bytes", file.len());
        Err(Flaw::new(ProblemKind::Truncated, what))
    } else {
        Err(Flaw::new(ProblemKind::Wrong, "its SHA-256 is not the one the head names"))
    })
}

/// Reads a block; returns it compressed.
pub async fn block(reader: &dyn Fetch, row: &BlockRow) -> Examined<Bytes> {
    let file = match reader.get(&RepoPath::block(&row.id), zlib_max_bytes(row.bytes)).await {
        Ok(file) => file,
        Err(e) => return Ok(Err(Flaw::of(e)?)),
    };
    let (row, copy) = (*row, file.clone());
    let opened = bridge::blocking(move || Block::open(&row, &copy).map(drop)).await;
    Ok(opened.map(|()| file.clone()).map_err(|why| bad_block(&row, file.len() as u64, &why)))
}

/// A block that is shorter than published and ends early is truncated; everything else is wrong.
fn bad_block(row: &BlockRow, bytes: u64, why: &BadBlock) -> Flaw {
    let published = u64::from(row.zlib_bytes);
    let breaks_off = matches!(why, BadBlock::Empty | BadBlock::Broken | BadBlock::Length { found: None, .. });
    if bytes < published && breaks_off {
        return Flaw::new(ProblemKind::Truncated, format!("{bytes} of {published} bytes: {why}"));
    }
    Flaw::new(ProblemKind::Wrong, why.to_string())
}

/// A public URL with one retry when unreachable: the network path to it is longer than the one to the store.
#[derive(Debug)]
pub struct Twice<'a>(pub &'a dyn Fetch);

#[async_trait::async_trait]
impl Fetch for Twice<'_> {
    async fn get_with(&self, path: &RepoPath, max_bytes: u64, freshness: Freshness) -> Result<Bytes, StoreError> {
        match self.0.get_with(path, max_bytes, freshness).await {
            Err(e) if e.kind() == StoreErrorKind::Unreachable => {
                tokio::time::sleep(SECOND_TRY).await;
                self.0.get_with(path, max_bytes, freshness).await
            }
            done => done,
        }
    }

    fn location(&self) -> &str {
        self.0.location()
    }
}
