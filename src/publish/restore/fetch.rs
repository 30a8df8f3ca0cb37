//! Downloads the blocks that are missing, several at a time.
//!
//! The source is patient with each block. Here a block that it gave up is asked for again as long as others arrive: a
//! restore ends when nothing at all has arrived for a while.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::work::{State, Work};
use crate::error::Error;
use crate::progress::Origin;
use crate::repo::BlockSource;

/// What is in transfer is fetched again after a kill: at most this part of it all is (1/64),
const IN_FLIGHT_PART: u64 = 64;
/// but these bytes may be, so that a long distance does not slow down a small image.
const IN_FLIGHT_MIN_BYTES: u64 = 256 << 10;
/// So many blocks are in transfer however large they are: one that no mirror has does not stop the others.
const AT_ONCE_MIN: u64 = 4;
/// Unit in which transfers are counted, in bytes.
const UNIT_BYTES: u64 = 1 << 10;
/// Pause before a block is asked for again.
const PAUSE: Duration = Duration::from_millis(200);

/// How blocks are downloaded.
#[derive(Debug, Clone, Copy)]
pub struct Fetching {
    /// Concurrent downloads.
    pub at_once: usize,
    /// How long nothing may arrive before a failure ends it.
    pub timeout: Duration,
}

/// Downloads every block that is missing; returns their number and compressed size.
///
/// # Errors
/// A block that no mirror delivers; a failed write.
pub async fn fetch_missing(
    work: &Arc<Work>,
    source: Arc<dyn BlockSource>,
    fetching: Fetching,
) -> Result<(u64, u64), Error> {
    let missing = work.blocks(State::Missing);
    let zlib_bytes = |block: u32| u64::from(work.index.blocks()[block as usize].zlib_bytes);
    let total: u64 = missing.iter().map(|&block| zlib_bytes(block)).sum();
    let room_units = (work.index.zlib_bytes() / IN_FLIGHT_PART).max(IN_FLIGHT_MIN_BYTES) / UNIT_BYTES;
    let (slots, room) =
        (Arc::new(Semaphore::new(fetching.at_once.max(1))), Arc::new(Semaphore::new(room_units as usize)));
    let mut running: JoinSet<Result<(), Error>> = JoinSet::new();
    for &block in &missing {
        let units = (zlib_bytes(block) / UNIT_BYTES + 1).min(room_units / AT_ONCE_MIN) as u32;
        let slot = Arc::clone(&slots).acquire_owned().await;
        let place = Arc::clone(&room).acquire_many_owned(units).await;
        while let Some(finished) = running.try_join_next() {
            finished.map_err(|e| Error::local(e.to_string()))??;
        }
        let (work, source) = (Arc::clone(work), Arc::clone(&source));
        running.spawn(async move {
            let _permits = (slot, place);
            fetch_one(work, source, block, fetching.timeout).await
        });
    }
    while let Some(finished) = running.join_next().await {
        finished.map_err(|e| Error::local(e.to_string()))??;
    }
    Ok((missing.len() as u64, total))
}

async fn fetch_one(work: Arc<Work>, source: Arc<dyn BlockSource>, block: u32, timeout: Duration) -> Result<(), Error> {
    let bytes = loop {
        match source.block(&work.index.blocks()[block as usize]).await {
            Ok(bytes) => break bytes,
            Err(e) if work.idle() >= timeout => return Err(e.into()),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    };
    let written = tokio::task::spawn_blocking(move || work.write(block, &bytes, Origin::Fetched)).await;
    written.map_err(|e| Error::local(e.to_string()))?.map(drop)
}
