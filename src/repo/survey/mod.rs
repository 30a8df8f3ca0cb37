//! What all mirrors of a repository hold, and whom to trust: read once, for everything that is then done to it.
//!
//! Each answer is a value: a head is verified, absent, damaged, another publisher's or unreadable, and what is unreadable is
//! never taken for absent. Every head is read once and its bytes are judged by all keys that may have signed it. A mirror
//! that takes much longer than the others is left out after a bounded time, whatever it is busy with.

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

/// Heads asked for at the same time on one mirror.
const HEADS_AT_ONCE: usize = 16;

/// What is to be found out of each mirror.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The images whose heads are read on every mirror.
    pub images: BTreeSet<Name>,
    /// Whether the heads of all images that a mirror names are read, too.
    pub all_heads: bool,
    /// What is listed.
    pub listing: Listing,
    /// How long a mirror may take once another one has shown everything.
    pub patience: Duration,
}

/// What of a mirror is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// Nothing.
    Nothing,
    /// The indexes of the images.
    Indexes,
    /// Everything.
    Everything,
}

/// What one mirror shows of itself.
#[derive(Debug, Default)]
pub struct MirrorView {
    /// Its list of images.
    pub list: ListState,
    /// The heads of the images that were asked for.
    pub heads: BTreeMap<Name, HeadState>,
    /// What it lists; nothing where nothing was to be listed.
    pub inventory: Inventory,
    /// Why there is no listing, where one was wanted.
    pub unlisted: Option<StoreError>,
}

/// The heads of a mirror as they were read.
type Answers = BTreeMap<Name, Result<Bytes, StoreError>>;

/// Looks at all mirrors side by side; `None` for those that take no part, an error for those that could not be looked at.
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

/// Reads the heads of these images; an error only where the mirror cannot be reached.
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

/// Heads that were judged before: most mirrors have the same bytes.
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

    /// Whether nothing of a repository was seen here.
    pub fn is_empty(&self) -> bool {
        let absent = |state: &HeadState| matches!(state, HeadState::Absent);
        self.list.is_absent() && self.inventory.objects == 0 && self.heads.values().all(absent)
    }

    /// The names of the images of which a verified head is here.
    pub fn verified(&self) -> impl Iterator<Item = &Name> {
        self.heads.iter().filter(|(_, state)| state.verified().is_some()).map(|(name, _)| name)
    }
}
