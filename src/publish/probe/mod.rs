//! `mirrors`: the state of each mirror, and whether its store keeps the guarantees that publishing relies on.
//!
//! Guarantees are tested with probe objects, so a faulty store is detected before it does harm. The probe objects are
//! removed even after an error. No lock is taken, and objects of the repository are not changed.

mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::timeout;

use super::repository::mirror::{self, OpenMirror};
use super::repository::options::Repository;
use crate::error::Error;
use crate::format::image_list;
use crate::format::layout::RepoPath;
use crate::format::name::Name;
use crate::progress::{Event, Phase, Watch, cancelled};
use crate::repo::survey::{self, HeadState, Listing, MirrorView, Scope, TrustPolicy};
use crate::store::{Fetch, Store, StoreError, StoreErrorKind};

pub use trial::{Capabilities, Verdict};

/// Path prefix of probe objects: in the directory of the heads, so that no directory has to be created.
pub const PREFIX: &str = "probe-";
/// Number of small reads whose median is the latency.
const LATENCY_READS: usize = 3;
/// Time limit for all trials on one mirror.
const TRIALS_TIMEOUT: Duration = Duration::from_secs(180);
/// Time limit for removing the probe objects.
const CLEAN_TIMEOUT: Duration = Duration::from_secs(30);

/// Options of a probe.
#[derive(Debug, Clone)]
pub struct ProbeOptions {
    /// The keys whose signatures are accepted; other heads are reported as not verified.
    pub policy: TrustPolicy,
    /// Whether to count the objects, by a listing.
    pub count: bool,
    /// Whether to test the store's guarantees, which writes to it.
    pub trials: bool,
}

/// The state of one mirror.
#[derive(Debug, Clone, Serialize)]
pub struct MirrorState {
    /// Mirror name.
    pub name: String,
    /// URL or path of its store.
    pub write: String,
    /// Public URL that clients read.
    pub read: Option<String>,
    /// Whether it responds.
    pub reachable: bool,
    /// Why it is unreachable, or why the result is incomplete.
    pub why: Option<String>,
    /// Median latency of a small read, in milliseconds.
    pub latency_ms: Option<f64>,
    /// The images of the repository, as seen on this mirror.
    pub images: Vec<ImageState>,
    /// Number of objects, if counted.
    pub objects: Option<u64>,
    /// Total size of the objects in bytes, if counted.
    pub bytes: Option<u64>,
    /// The guarantees its store was found to keep, if tested.
    pub capabilities: Option<Capabilities>,
}

/// An image on a mirror.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageState {
    /// Image name.
    pub image: String,
    /// The newest version here; `None` without a well-formed head.
    pub version: Option<u32>,
    /// How many versions this mirror lags behind the newest on any mirror.
    pub behind: u32,
    /// Whether the head is signed by a key known here.
    pub verified: bool,
}

/// The heads of a mirror, by image.
type Heads = BTreeMap<Name, HeadState>;

/// Probes all mirrors concurrently.
///
/// # Errors
/// An unsupported protocol; the user cancelled. A mirror that does not respond is only reported as unreachable.
pub async fn probe(repository: &Repository, options: &ProbeOptions, watch: &Watch) -> Result<Vec<MirrorState>, Error> {
    let mirrors = mirror::open_all(repository).await?;
    let cancel = &*watch.cancel;
    watch.progress.event(Event::Phase(Phase::Survey));
    let asked = join_all(mirrors.iter().map(|m| ask(m, options, cancel))).await;
    if cancel.load(Ordering::Relaxed) {
        return Err(Error::interrupted());
    }
    let (mut states, heads): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    let newest = newest(&heads);
    for (state, heads) in states.iter_mut().zip(&heads) {
        state.images = newest.iter().filter(|_| state.reachable).map(|(name, top)| image(name, *top, heads)).collect();
    }
    Ok(states)
}

async fn ask(mirror: &OpenMirror, options: &ProbeOptions, cancel: &AtomicBool) -> (MirrorState, Heads) {
    let mut state = MirrorState {
        name: mirror.name().to_owned(),
        write: mirror.config.write.to_string(),
        read: mirror.config.read.as_ref().map(ToString::to_string),
        reachable: false,
        why: None,
        latency_ms: None,
        images: Vec::new(),
        objects: None,
        bytes: None,
        capabilities: None,
    };
    if let Some(failure) = &mirror.failed {
        state.why = Some(failure.why.clone());
        return (state, Heads::default());
    }
    match ask_all(mirror, options, &mut state, cancel).await {
        Ok(heads) => (state, heads),
        Err(e) => {
            state.why.get_or_insert(e.to_string());
            (state, Heads::new())
        }
    }
}

async fn ask_all(
    mirror: &OpenMirror,
    options: &ProbeOptions,
    state: &mut MirrorState,
    cancel: &AtomicBool,
) -> Result<Heads, Error> {
    let store = &*mirror.store;
    state.latency_ms = Some(latency_ms(store).await?);
    state.reachable = true;
    let (images, all_heads, listing) = (BTreeSet::new(), true, Listing::Nothing);
    let scope = Scope { images, all_heads, listing, patience: TRIALS_TIMEOUT };
    let view = survey::look(&[Some(store)], &scope, &options.policy).await.pop().flatten();
    let view = view.unwrap_or_else(|| Ok(MirrorView::default()))?;
    state.why = view.list.flaw.map(|flaw| format!("{}/{}: {}", store.location(), RepoPath::images(), flaw.what));
    let heads = view.heads;
    if options.count {
        let entries = store.list("").await?;
        state.objects = Some(entries.len() as u64);
        state.bytes = Some(entries.iter().map(|entry| entry.bytes).sum());
    }
    if options.trials {
        state.capabilities = Some(try_store(&*mirror.store, mirror.public.as_deref(), cancel).await);
    }
    Ok(heads)
}

/// Median time of a few small reads; "not found" counts as a response.
async fn latency_ms(store: &dyn Store) -> Result<f64, StoreError> {
    let mut times = Vec::new();
    for _ in 0..LATENCY_READS {
        let started = Instant::now();
        match store.get(&RepoPath::images(), image_list::FILE_MAX_BYTES).await {
            Err(e) if !matches!(e.kind(), StoreErrorKind::NotFound | StoreErrorKind::TooLong) => return Err(e),
            _ => times.push(started.elapsed().as_secs_f64() * 1000.0),
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[LATENCY_READS / 2])
}

/// Tests the guarantees of a store, and removes the probe objects even if the user cancels.
pub async fn try_store(store: &dyn Store, public: Option<&dyn Fetch>, cancel: &AtomicBool) -> Capabilities {
    let objects = trial::Objects::new();
    let found = tokio::select! {
        found = timeout(TRIALS_TIMEOUT, trial::all(store, public, &objects)) => found.ok(),
        () = cancelled(cancel) => None,
    };
    let why = || format!("not found out within {} s", TRIALS_TIMEOUT.as_secs());
    let mut found = found.unwrap_or_else(|| Capabilities::unknown(&why()));
    let cleaned = timeout(CLEAN_TIMEOUT, objects.remove(store)).await;
    found.left_behind = cleaned.unwrap_or_else(|_| objects.paths());
    found
}

/// The newest version of each image on any mirror; a verified head takes precedence over an unverified one.
fn newest(heads: &[Heads]) -> BTreeMap<Name, Option<u32>> {
    let mut newest: BTreeMap<Name, Option<(bool, u32)>> = BTreeMap::new();
    for (name, state) in heads.iter().flatten() {
        let top = newest.entry(name.clone()).or_default();
        *top = (*top).max(version(state).map(|(version, verified)| (verified, version)));
    }
    newest.into_iter().map(|(name, top)| (name, top.map(|(_, version)| version))).collect()
}

fn version(state: &HeadState) -> Option<(u32, bool)> {
    match state {
        HeadState::Verified(found) => Some((found.head.newest().version.number(), found.key.is_some())),
        HeadState::Foreign(head, ..) => Some((head.newest().version.number(), false)),
        HeadState::Absent | HeadState::Damaged(..) | HeadState::Unreadable(_) => None,
    }
}

fn image(name: &Name, newest: Option<u32>, heads: &Heads) -> ImageState {
    let found = heads.get(name).and_then(version);
    let here = found.map(|(version, _)| version);
    ImageState {
        image: name.to_string(),
        version: here,
        behind: newest.unwrap_or(0).saturating_sub(here.unwrap_or(0)),
        verified: found.is_some_and(|(_, verified)| verified),
    }
}
