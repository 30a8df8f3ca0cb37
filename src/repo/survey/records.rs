//! Verified records of retired versions on all mirrors; of several for one version, the one marked last.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use super::trust::TrustPolicy;
use crate::format::layout::{Kind, RepoPath};
use crate::format::retirement::{FILE_MAX_BYTES, Retirement};
use crate::store::{Fetch, StoreError, StoreErrorKind};
use crate::weaken::{self, Weakness};

/// Maximum records read per mirror: those of 300 images that publish every night with a grace period of half a year.
const RECORDS_MAX: usize = 1 << 16;
/// Concurrent reads, and the time limit for all records of one mirror.
const READS_AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// A record and its file.
#[derive(Debug, Clone)]
pub struct FoundRecord {
    /// Parsed record.
    pub retirement: Retirement,
    /// Record file.
    pub file: bytes::Bytes,
}

/// What was found where a record should be.
#[derive(Debug)]
pub enum RecordState {
    /// A record that verifies.
    Verified(Box<FoundRecord>),
    /// Not a valid record, and why: it decides nothing.
    Refused(String),
    /// A record that could not be read.
    Unreadable(StoreError),
}

/// Reads the records that one mirror lists at these paths. One that is listed and not there counts as unreadable, since
/// the mirror may show an older state; so does one that does not arrive in time.
pub async fn read_listed(
    store: &dyn Fetch,
    paths: &[RepoPath],
    policy: &TrustPolicy,
) -> BTreeMap<RepoPath, RecordState> {
    let mut found = read(store, paths, policy).await;
    // The first record that is missing is enough to say so.
    if let Some(path) = paths.iter().find(|path| !found.contains_key(*path)) {
        let why = match paths.len() > RECORDS_MAX {
            true => format!("there are {} records, at most {RECORDS_MAX} are read", paths.len()),
            false => "it is listed, and not there".to_owned(),
        };
        let error = StoreError::at(store.location(), path, StoreErrorKind::NotFound, why);
        found.insert(path.clone(), RecordState::Unreadable(error));
    }
    found
}

/// Reads the records at these paths of one mirror, as far as they exist. Those that do not arrive in time count as
/// unreadable.
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

/// The record at `path`; `None` if it is missing.
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

/// Of the verified records of several mirrors, the one marked last for each path.
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
