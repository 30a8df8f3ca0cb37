//! What all mirrors of a repository hold, and which keys are trusted: read once, for all further operations on it.
//!
//! Each answer is a value: a head is verified, absent, damaged, another publisher's or unreadable, and unreadable never
//! counts as absent. Every head is read once, and its bytes are checked against all keys that may have signed it. A
//! mirror that takes much longer than the others is left out after a bounded time, whatever it is doing.

mod flaw;
pub mod head;
mod inventory;
mod list;
pub mod numbers;
pub mod records;
mod trust;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use crate::format::digest::Sha256;
use crate::format::name::Name;
use crate::store::{Store, StoreError, StoreErrorKind};
use crate::system::bridge;

pub use flaw::{Flaw, ProblemKind};
pub use head::{HeadState, VerifiedHead};
pub use inventory::{BlockListing, Inventory};
pub use list::ListState;
pub use trust::{Accepted, KnownKeys, TrustPolicy};

/// Heads read concurrently from one mirror.
const HEADS_AT_ONCE: usize = 16;

/// What to read from each mirror.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Images whose heads are read on every mirror.
    pub images: BTreeSet<Name>,
    /// Whether to also read the heads of all images that a mirror names.
    pub all_heads: bool,
    /// What to list.
    pub listing: Listing,
    /// How long a mirror may take once another one has answered completely.
    pub patience: Duration,
}

/// What to list of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// Nothing.
    Nothing,
    /// Indexes of the images.
    Indexes,
    /// All objects.
    Everything,
}

/// Observed state of one mirror.
#[derive(Debug, Default)]
pub struct MirrorView {
    /// List of images.
    pub list: ListState,
    /// Heads of the requested images.
    pub heads: BTreeMap<Name, HeadState>,
    /// Its listing; empty if none was requested.
    pub inventory: Inventory,
    /// Why a requested listing failed.
    pub unlisted: Option<StoreError>,
}

/// Heads of a mirror as read, not yet judged.
type Answers = BTreeMap<Name, Result<Bytes, StoreError>>;

/// Surveys all mirrors concurrently; `None` for those that take no part, an error for those that could not be surveyed.
pub async fn look(
    stores: &[Option<&dyn Store>],
    scope: &Scope,
    policy: &TrustPolicy,
) -> Vec<Option<Result<MirrorView, StoreError>>> {
    let looks = stores.iter().flatten().map(|store| look_at(*store, scope));
    let mut looked = bridge::in_time(looks, scope.patience, Result::is_ok).await.into_iter();
    let mut known = HashMap::new();
    let view = |store: &Option<&dyn Store>| {
        store.map(|store| match looked.next().flatten() {
            Some(Ok((view, answers))) => Ok(judge_all(view, answers, policy, &mut known)),
            Some(Err(e)) => Err(e),
            None => Err(too_slow(store, scope.patience)),
        })
    };
    stores.iter().map(view).collect()
}

fn too_slow(store: &dyn Store, patience: Duration) -> StoreError {
    let why = format!("did not show what it holds within {} s after the others", patience.as_secs());
    StoreError::whole(store.location(), StoreErrorKind::Unreachable, why)
}

async fn look_at(store: &dyn Store, scope: &Scope) -> Result<(MirrorView, Answers), StoreError> {
    let mut view = MirrorView { list: ListState::read(store).await?, ..MirrorView::default() };
    match list(store, scope).await {
        Ok(inventory) => view.inventory = inventory,
        Err(e) if e.kind() == StoreErrorKind::Unreachable => return Err(e),
        Err(e) => view.unlisted = Some(e),
    }
    let mut names = scope.images.clone();
    if scope.all_heads {
        names.extend(view.list.names.iter().cloned());
        names.extend(view.inventory.heads.iter().take(crate::format::image_list::IMAGES_MAX).cloned());
    }
    let heads = ask(store, names).await?;
    Ok((view, heads))
}

async fn list(store: &dyn Store, scope: &Scope) -> Result<Inventory, StoreError> {
    match scope.listing {
        Listing::Nothing => Ok(Inventory::default()),
        Listing::Everything => Inventory::of_all(store).await,
        Listing::Indexes => {
            let mut inventory = Inventory::default();
            for image in &scope.images {
                let listed = Inventory::of_indexes(store, image).await?;
                inventory.objects += listed.objects;
                inventory.indexes.extend(listed.indexes);
            }
            Ok(inventory)
        }
    }
}

/// Reads the heads of these images; fails only if the mirror cannot be reached.
async fn ask(store: &dyn Store, names: BTreeSet<Name>) -> Result<Answers, StoreError> {
    let asked = stream::iter(names).map(|name| async move {
        let answer = head::fetch(store, &name).await;
        (name, answer)
    });
    let mut asked = asked.buffer_unordered(HEADS_AT_ONCE);
    let mut answers = Answers::new();
    while let Some((name, answer)) = asked.next().await {
        match answer {
            Err(e) if e.kind() == StoreErrorKind::Unreachable => return Err(e),
            answer => drop(answers.insert(name, answer)),
        }
    }
    Ok(answers)
}

/// Cache of judged heads: most mirrors have the same bytes.
type Known = HashMap<(Name, Sha256), HeadState>;

fn judge_all(mut view: MirrorView, answers: Answers, policy: &TrustPolicy, known: &mut Known) -> MirrorView {
    for (name, answer) in answers {
        let state = match answer {
            Ok(file) => {
                let key = (name.clone(), Sha256::of(&file));
                known.entry(key).or_insert_with(|| head::judge(Ok(file), &name, &policy.of(&name))).clone()
            }
            answer => head::judge(answer, &name, &policy.of(&name)),
        };
        view.heads.insert(name, state);
    }
    view
}

impl MirrorView {
    /// Reads the heads of further images, which other mirrors have.
    ///
    /// # Errors
    /// A mirror that cannot be reached.
    pub async fn add_heads(
        &mut self,
        store: &dyn Store,
        names: &BTreeSet<Name>,
        policy: &TrustPolicy,
    ) -> Result<(), StoreError> {
        let names: BTreeSet<Name> = names.iter().filter(|name| !self.heads.contains_key(*name)).cloned().collect();
        let answers = ask(store, names).await?;
        let view = judge_all(std::mem::take(self), answers, policy, &mut Known::new());
        *self = view;
        Ok(())
    }

    /// Whether nothing of a repository was found here.
    pub fn is_empty(&self) -> bool {
        let absent = |state: &HeadState| matches!(state, HeadState::Absent);
        self.list.is_absent() && self.inventory.objects == 0 && self.heads.values().all(absent)
    }

    /// Names of the images with a verified head here.
    pub fn verified(&self) -> impl Iterator<Item = &Name> {
        self.heads.iter().filter(|(_, state)| state.verified().is_some()).map(|(name, _)| name)
    }
}
