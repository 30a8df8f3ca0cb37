//! The records of retired versions on all mirrors: those that verify, and of several the one that was marked last.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use super::trust::TrustPolicy;
use crate::format::layout::{Kind, RepoPath};
use crate::format::retirement::{FILE_MAX_BYTES, Retirement};
use crate::store::{Fetch, StoreError, StoreErrorKind};
use crate::weaken::{self, Weakness};

/// The most records that are read of one mirror in one run; the others wait for the next one.
const RECORDS_MAX: usize = 4096;
/// How many are read at once, and how long all of one mirror may take.
const READS_AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// A record, and its file.
#[derive(Debug, Clone)]
pub struct FoundRecord {
    /// What it says.
    pub retirement: Retirement,
    /// Its file.
    pub file: bytes::Bytes,
}

/// What was found at a place where a record should be.
#[derive(Debug)]
pub enum RecordState {
    /// A record that verifies.
    Verified(Box<FoundRecord>),
    /// Something that is none: it decides nothing. Why it is none.
    Refused(String),
    /// Something that could not be read.
    Unreadable(StoreError),
}

/// The records of one mirror that it lists at these paths. Those that it does not show in time count as unreadable.
pub async fn read(store: &dyn Fetch, paths: &[RepoPath], policy: &TrustPolicy) -> BTreeMap<RepoPath, RecordState> {
    let deadline = Instant::now() + PATIENCE;
    let reads = stream::iter(paths.iter().take(RECORDS_MAX)).map(|path| async move {
        let state = timeout_at(deadline, read_one(store, path, policy)).await;
        Some((path.clone(), state.unwrap_or_else(|_| Some(RecordState::Unreadable(too_slow(store, path))))?))
    });
    reads.buffered(READS_AT_ONCE).filter_map(std::future::ready).collect().await
}

fn too_slow(store: &dyn Fetch, path: &RepoPath) -> StoreError {
    let why = format!("the records did not arrive within {} minutes", PATIENCE.as_secs() / 60);
    StoreError::at(store.location(), path, StoreErrorKind::Unreachable, why)
}

/// The record at `path`; `None` where there is none.
pub async fn read_one(store: &dyn Fetch, path: &RepoPath, policy: &TrustPolicy) -> Option<RecordState> {
    let Kind::Retirement(image, ..) = path.kind() else { return None };
    let file = match store.get(path, FILE_MAX_BYTES).await {
        Ok(file) => file,
        Err(e) if e.kind() == StoreErrorKind::NotFound => return None,
        Err(e) if e.kind() == StoreErrorKind::TooLong => return Some(RecordState::Refused(e.to_string())),
        Err(e) => return Some(RecordState::Unreadable(e)),
    };
    let mut why = String::from("no key is known for it");
    for trust in policy.of(&image).any {
        match Retirement::read(&file, path, &trust) {
            Ok(retirement) => return Some(RecordState::Verified(Box::new(FoundRecord { retirement, file }))),
            Err(e) => why = e.to_string(),
        }
    }
    Some(RecordState::Refused(why))
}

/// Of the verified records of several mirrors, for each path the one that was marked last.
pub fn latest<'a>(
    mirrors: impl Iterator<Item = &'a BTreeMap<RepoPath, RecordState>>,
) -> BTreeMap<RepoPath, FoundRecord> {
    let mut latest: BTreeMap<RepoPath, FoundRecord> = BTreeMap::new();
    for (path, state) in mirrors.flatten() {
        let RecordState::Verified(found) = state else { continue };
        let is_later = |before: &FoundRecord| {
            before.retirement.marked < found.retirement.marked && !weaken::is(Weakness::LatestRecord)
        };
        if latest.get(path).is_none_or(is_later) {
            latest.insert(path.clone(), (**found).clone());
        }
    }
    latest
}
