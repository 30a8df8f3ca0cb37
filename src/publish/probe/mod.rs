//! `mirrors`: how each mirror is, and whether its store keeps the promises that publishing rests on.
//!
//! Promises are tried with objects made for it and removed again, whatever happens: a lying store is known before it
//! matters. No lock is taken and nothing of the repository is touched.

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
use crate::progress::{Event, Watch, cancelled};
use crate::repo::survey::{self, HeadState, Listing, MirrorView, Scope, TrustPolicy};
use crate::store::{Fetch, Store, StoreError, StoreErrorKind};

pub use trial::{Capabilities, Verdict};

/// What the paths of probe objects begin with: beside the heads, so that no directory has to be made for them.
pub const PREFIX: &str = "probe-";
/// Small reads of which the median is the latency.
const LATENCY_READS: usize = 3;
/// How long all trials on one mirror may take.
const TRIALS_TIMEOUT: Duration = Duration::from_secs(180);
/// How long removing what was left may take.
const CLEAN_TIMEOUT: Duration = Duration::from_secs(30);

/// What is to be found out.
#[derive(Debug, Clone)]
pub struct ProbeOptions {
    /// Whose signatures are accepted; other heads are shown as not verified.
    pub policy: TrustPolicy,
    /// Counts the objects, by a listing.
    pub count: bool,
    /// Tries the store's promises, which writes to it.
    pub trials: bool,
}

/// How one mirror is.
#[derive(Debug, Clone, Serialize)]
pub struct MirrorState {
    /// Its name.
    pub name: String,
    /// Where it is written to.
    pub write: String,
    /// Where clients read it.
    pub read: Option<String>,
    /// Whether it answers.
    pub reachable: bool,
    /// Why not, or why not everything could be found out.
    pub why: Option<String>,
    /// Milliseconds for a small read.
    pub latency_ms: Option<f64>,
    /// The images it has.
    pub images: Vec<ImageState>,
    /// Objects of it, where they were counted.
    pub objects: Option<u64>,
    /// Bytes of these.
    pub bytes: Option<u64>,
    /// What its store was found to keep to, where that was tried.
    pub capabilities: Option<Capabilities>,
}

/// An image on a mirror.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageState {
    /// Its name.
    pub image: String,
    /// The newest version here, none where there is no head that makes sense.
    pub version: Option<u32>,
    /// How many versions of the newest of all mirrors are missing here.
    pub behind: u32,
    /// Whether a key that is known here vouches for it.
    pub verified: bool,
}

/// The heads of a mirror.
type Heads = BTreeMap<Name, HeadState>;

/// Asks every mirror how it is.
///
/// # Errors
/// A protocol that this hfl does not speak; the user. A mirror that does not answer is only said to be so.
pub async fn probe(repository: &Repository, options: &ProbeOptions, watch: &Watch) -> Result<Vec<MirrorState>, Error> {
    let mirrors = mirror::open_all(repository).await?;
    let cancel = &*watch.cancel;
    watch.progress.event(Event::Step("asking the mirrors"));
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

/// The median of a few small reads; that there is nothing to read is an answer, too.
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

/// Tries what a store keeps to, and removes what that has left, even where the user has had enough.
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

/// The newest version of each image on any mirror; a head that is verified goes before one that only says so.
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
