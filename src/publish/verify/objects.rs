//! Reading one object whole and saying what is wrong with it, within a budget of memory for all mirrors together.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::Error;
use crate::format::block::{BadBlock, Block, zlib_max_bytes};
use crate::format::digest::Sha256;
use crate::format::index::BlockRow;
use crate::format::layout::RepoPath;
use crate::repo::survey::{Flaw, ProblemKind};
use crate::store::{Fetch, Freshness, StoreError, StoreErrorKind};
use crate::system::bridge;

/// Bytes of objects under way at the same time, on all mirrors together: many mirrors must not need much memory.
const BUDGET_BYTES: u64 = 256 << 20;
/// What one permit of the budget stands for.
const PERMIT_BYTES: u64 = 64 << 10;
/// How long a public URL that failed is left alone before it is asked once more.
const SECOND_TRY: Duration = Duration::from_millis(500);

/// Room for objects in memory.
#[derive(Debug)]
pub struct Budget(Semaphore);

impl Default for Budget {
    fn default() -> Self {
        Self(Semaphore::new((BUDGET_BYTES / PERMIT_BYTES) as usize))
    }
}

impl Budget {
    /// Waits for room for an object; one that is larger than all of it gets all of it.
    pub async fn room(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let permits = bytes.clamp(1, BUDGET_BYTES).div_ceil(PERMIT_BYTES);
        self.0.acquire_many(permits as u32).await.ok()
    }
}

/// What came of reading an object: something of it, or what is wrong.
///
/// # Errors
/// The mirror cannot be reached.
pub type Examined<T> = Result<Result<T, Flaw>, Error>;

/// An object that should have exactly these bytes.
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

/// A block; the bytes of its file.
pub async fn block(reader: &dyn Fetch, row: &BlockRow) -> Examined<Bytes> {
    let file = match reader.get(&RepoPath::block(&row.id), zlib_max_bytes(row.bytes)).await {
        Ok(file) => file,
        Err(e) => return Ok(Err(Flaw::of(e)?)),
    };
    let (row, copy) = (*row, file.clone());
    let opened = bridge::blocking(move || Block::open(&row, &copy).map(drop)).await;
    Ok(opened.map(|()| file.clone()).map_err(|why| bad_block(&row, file.len() as u64, &why)))
}

/// A file that is shorter than it was published and breaks off is truncated; everything else is wrong.
fn bad_block(row: &BlockRow, bytes: u64, why: &BadBlock) -> Flaw {
    let published = u64::from(row.zlib_bytes);
    let breaks_off = matches!(why, BadBlock::Empty | BadBlock::Broken | BadBlock::Length { found: None, .. });
    if bytes < published && breaks_off {
        return Flaw::new(ProblemKind::Truncated, format!("{bytes} of {published} bytes: {why}"));
    }
    Flaw::new(ProblemKind::Wrong, why.to_string())
}

/// A public URL, which is asked once more where it fails: the way to it is longer than the one to the store.
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
