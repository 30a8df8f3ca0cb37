//! Tests the guarantees of a store, each with its own probe object.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use serde::Serialize;

use super::PREFIX;
use crate::format::layout::RepoPath;
use crate::store::{Fetch, Put, Store, StoreError, StoreErrorKind, Swap};

/// Number of concurrent writers to one path.
const RACERS: usize = 8;
/// How many times an object is replaced while it is read.
const REPLACES: usize = 20;
/// Size of that object in bytes: more than one packet, so that a partial write could be seen.
const REPLACED_BYTES: usize = 64 << 10;

/// Test result for one guarantee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict", content = "why")]
pub enum Verdict {
    /// The guarantee holds.
    Yes,
    /// It does not hold; contains what was observed, and what hfl does instead.
    No(String),
    /// It could not be tested; contains the reason.
    Unknown(String),
}

/// Test results for all guarantees of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Of concurrent writers that create one object, exactly one succeeds and the others are notified.
    pub exclusive_create: Verdict,
    /// Readers see an object as it was before or after a replacement, nothing in between.
    pub atomic_replace: Verdict,
    /// Of concurrent writers that replace the same content, exactly one succeeds and the others are notified.
    pub conditional_put: Verdict,
    /// Written objects are readable through the public URL; `None` without a public URL.
    pub read_back: Option<Verdict>,
    /// Probe objects that could not be removed.
    pub left_behind: Vec<String>,
}

impl Capabilities {
    /// All results unknown, for this reason.
    pub(super) fn unknown(why: &str) -> Self {
        let unknown = || Verdict::Unknown(why.to_owned());
        let (exclusive_create, atomic_replace, conditional_put) = (unknown(), unknown(), unknown());
        let (read_back, left_behind) = (None, Vec::new());
        Self { exclusive_create, atomic_replace, conditional_put, read_back, left_behind }
    }
}

/// The probe objects on one mirror, under unique random names.
#[derive(Debug)]
pub struct Objects {
    create: Option<RepoPath>,
    race: Option<RepoPath>,
    replace: Option<RepoPath>,
    swap: Option<RepoPath>,
}

impl Objects {
    pub(super) fn new() -> Self {
        let token: u64 = rand::random();
        let path = |what: &str| format!("{PREFIX}{token:016x}-{what}").parse().ok();
        Self { create: path("create"), race: path("race"), replace: path("replace"), swap: path("swap") }
    }

    fn all(&self) -> impl Iterator<Item = &RepoPath> {
        [&self.create, &self.race, &self.replace, &self.swap].into_iter().flatten()
    }

    pub(super) fn paths(&self) -> Vec<String> {
        self.all().map(ToString::to_string).collect()
    }

    /// Removes the objects; returns the paths of those that remain.
    pub(super) async fn remove(&self, store: &dyn Store) -> Vec<String> {
        let removed = join_all(self.all().map(async |path| (path, store.delete(path).await))).await;
        removed.into_iter().filter(|(_, done)| done.is_err()).map(|(path, _)| path.to_string()).collect()
    }
}

/// Tests all guarantees in sequence.
pub(super) async fn all(store: &dyn Store, public: Option<&dyn Fetch>, objects: &Objects) -> Capabilities {
    let mut found = Capabilities::unknown("no name for the object");
    if let (Some(create), Some(race)) = (&objects.create, &objects.race) {
        found.exclusive_create = said(exclusive_create(store, create, race).await);
    }
    if let Some(path) = &objects.replace {
        found.atomic_replace = said(atomic_replace(store, path).await);
    }
    if let Some(path) = &objects.swap {
        found.conditional_put = said(conditional_put(store, path).await);
        if let Some(public) = public {
            found.read_back = Some(said(read_back(store, public, path).await));
        }
    }
    found
}

/// `None` means that the guarantee holds, `Some` states why not.
type Tried = Result<Option<String>, StoreError>;

fn said(tried: Tried) -> Verdict {
    match tried {
        Ok(None) => Verdict::Yes,
        Ok(Some(why)) => Verdict::No(why),
        Err(e) => Verdict::Unknown(e.to_string()),
    }
}

fn body(writer: usize) -> Bytes {
    format!("hfl tries what this store keeps to; writer {writer}\n").into()
}

async fn exclusive_create(store: &dyn Store, path: &RepoPath, race: &RepoPath) -> Tried {
    const INSTEAD: &str = "hfl waits after taking the lock and checks that it still holds it";
    let no = |what: String| Ok(Some(format!("{what}; {INSTEAD}")));
    if store.put_new(path, body(0)).await? == Put::Exists {
        return no("a new name is said to exist".into());
    }
    let again = store.put_new(path, body(1)).await?;
    let found = store.get(path, body(0).len() as u64).await?;
    if again == Put::Created {
        return no("a second create is reported as successful".into());
    }
    if found != body(0) {
        return no("a second create replaces the first, although it is reported as failed".into());
    }
    let racers = join_all((0..RACERS).map(|writer| store.put_new(race, body(writer)))).await;
    match winners(racers, Put::Created)?.len() {
        0 | 1 => Ok(None),
        won => no(format!("{won} of {RACERS} concurrent creates are reported as successful")),
    }
}

/// The writers whose request returned `won`. Failed requests are ignored while there is a winner; without one, the
/// error is returned, as the outcome is unknown.
fn winners<T: PartialEq>(racers: Vec<Result<T, StoreError>>, won: T) -> Result<Vec<usize>, StoreError> {
    let mut winners = Vec::new();
    let mut broken = None;
    for (writer, told) in racers.into_iter().enumerate() {
        match told {
            Ok(told) if told == won => winners.push(writer),
            Ok(_) => {}
            Err(e) => broken = Some(e),
        }
    }
    match broken {
        Some(e) if winners.is_empty() => Err(e),
        _ => Ok(winners),
    }
}

/// Replaces an object repeatedly while it is read.
async fn atomic_replace(store: &dyn Store, path: &RepoPath) -> Tried {
    let body = |round: usize| Bytes::from(vec![b'a' + (round % 26) as u8; REPLACED_BYTES]);
    store.put_replace(path, body(0)).await?;
    let done = AtomicBool::new(false);
    let write = async {
        let mut written = Ok(());
        for round in 1..=REPLACES {
            written = store.put_replace(path, body(round)).await;
            if written.is_err() {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
        written
    };
    let read = async {
        // A failed read is ignored, as readers retry; only if no read succeeded is the result unknown.
        let (mut whole, mut broken) = (0, None);
        while !done.load(Ordering::Relaxed) {
            match look(store, path).await {
                Ok(None) => whole += 1,
                Ok(Some(seen)) => return Ok(Some(seen)),
                Err(e) => broken = Some(e),
            }
        }
        broken.filter(|_| whole == 0).map_or(Ok(None), Err)
    };
    let (written, seen) = tokio::join!(write, read);
    written?;
    let instead = "clients then retry, or read from another mirror";
    Ok(seen?.map(|seen| format!("{seen} while it was replaced; {instead}")))
}

/// Reads the object once; returns what a reader must not see, if anything.
async fn look(store: &dyn Store, path: &RepoPath) -> Tried {
    match store.get(path, REPLACED_BYTES as u64).await {
        Ok(bytes) if bytes.len() != REPLACED_BYTES => Ok(Some(format!("{} of {REPLACED_BYTES} bytes", bytes.len()))),
        Ok(bytes) if bytes.iter().any(|byte| *byte != bytes[0]) => Ok(Some("a mixture of old and new bytes".into())),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == StoreErrorKind::NotFound => Ok(Some("nothing was there".into())),
        Err(e) => Err(e),
    }
}

async fn conditional_put(store: &dyn Store, path: &RepoPath) -> Tried {
    const INSTEAD: &str = "hfl compares and replaces under the lock of the mirror";
    let no = |what: String| Ok(Some(format!("{what}; {INSTEAD}")));
    store.put_replace(path, body(0)).await?;
    if store.swap(path, Some(&body(1)), body(2)).await? == Swap::Done {
        return no("an object is replaced though it had changed".into());
    }
    let old = body(0);
    let racers = join_all((0..RACERS).map(|writer| store.swap(path, Some(&old), body(writer + 3)))).await;
    let winners = winners(racers, Swap::Done)?;
    let found = store.get(path, 1 << 10).await?;
    match winners[..] {
        [winner] if found == body(winner + 3) => Ok(None),
        [_] => no("the writer that is reported as successful did not write last".into()),
        [] => no("all concurrent replacements fail".into()),
        _ => no(format!("{} of {RACERS} concurrent replacements are reported as successful", winners.len())),
    }
}

async fn read_back(store: &dyn Store, public: &dyn Fetch, path: &RepoPath) -> Tried {
    let written = store.get(path, 1 << 10).await?;
    match public.get(path, 1 << 10).await {
        Ok(found) if found == written => Ok(None),
        Ok(_) => Ok(Some("the public URL returns other bytes".into())),
        Err(e) => Ok(Some(e.to_string())),
    }
}
