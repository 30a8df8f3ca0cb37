//! An open repository: its locked mirrors and their contents, read once.

pub mod connect;
pub mod keyring;
pub mod locked;
pub mod memory;
pub mod mirror;
pub mod options;
pub mod reader;
pub mod signer;
mod waiting;

pub use connect::{Connect, Drivers};
pub use keyring::Keyring;
pub use memory::Memory;
pub use mirror::readers;
pub use options::{BootOptions, Check, PublishOptions, Repository};
pub use reader::Reader;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::artifact::client;
use super::object::Object;
use crate::error::{Error, ErrorKind};
use crate::format::head::Head;
use crate::format::name::Name;
use crate::progress::{Event, Phase, Watch, cancelled};
use crate::repo::survey::head::{age, newest};
use crate::repo::survey::{self, HeadState, Listing, MirrorView, Scope, TrustPolicy, VerifiedHead};
use crate::store::Store;
use crate::system::bridge;
use mirror::OpenMirror;

/// How long a mirror may take to return its heads after the first mirror has.
pub const HEADS_PATIENCE: Duration = Duration::from_secs(60);
/// The same limit where everything on the mirror is listed.
pub const LISTING_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Time limit for unlocking after the user interrupts.
const STOP_WAIT: Duration = Duration::from_millis(1500);

/// An open repository.
pub struct OpenRepository {
    /// Options of the operation.
    pub config: Repository,
    /// The mirrors, in the order of mirrors.toml.
    pub mirrors: Vec<OpenMirror>,
    /// The survey of each mirror; empty for those that do not take part.
    pub views: Vec<MirrorView>,
    /// The keys whose signatures are accepted.
    pub policy: TrustPolicy,
    /// Receives progress and carries cancellation.
    pub watch: Watch,
    /// The clients to ship, once read.
    programs: Option<Vec<Object>>,
}

/// Which images of a repository to survey, and how.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The images whose heads are read on every mirror.
    pub images: BTreeSet<Name>,
    /// Whether the heads of all other images are read on every mirror too.
    pub all: bool,
    /// What to list.
    pub listing: Listing,
}

impl Selection {
    /// Selects one image; other images only as far as each mirror lists them.
    pub fn at(image: &Name) -> Self {
        Self::at_each([image.clone()])
    }

    /// Selects these images; others only as far as each mirror lists them.
    pub fn at_each(images: impl IntoIterator<Item = Name>) -> Self {
        Self { images: images.into_iter().collect(), all: false, listing: Listing::Indexes }
    }

    /// Selects these images and all that some mirror lists.
    pub fn at_all(images: impl IntoIterator<Item = Name>, listing: Listing) -> Self {
        Self { images: images.into_iter().collect(), all: true, listing }
    }
}

impl OpenRepository {
    /// Locks the mirrors (unless it is a dry run) and surveys them.
    ///
    /// # Errors
    /// Another publisher is at work; no mirror is usable; interrupted by the user.
    pub async fn open(config: Repository, policy: TrustPolicy, look: Selection, watch: Watch) -> Result<Self, Error> {
        watch.progress.event(Event::Phase(Phase::Survey));
        let mirrors = mirror::open_all(&config).await?;
        let cancel = Arc::clone(&watch.cancel);
        let mut repository = Self { config, mirrors, views: Vec::new(), policy, watch, programs: None };
        let entered = tokio::select! {
            biased;
            entered = repository.enter(&look) => entered,
            () = cancelled(&cancel) => Err(Error::interrupted()),
        };
        match entered {
            Ok(()) => Ok(repository),
            Err(e) => {
                repository.close().await;
                Err(e)
            }
        }
    }

    /// Opens a repository for `work`, and closes it whatever the result.
    ///
    /// # Errors
    /// Those of [`OpenRepository::open`] and of the work.
    pub async fn during<T>(
        config: Repository,
        policy: TrustPolicy,
        look: Selection,
        watch: Watch,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut open = Self::open(config, policy, look, watch).await?;
        let done = work(&mut open).await;
        open.close().await;
        done
    }

    async fn enter(&mut self, look: &Selection) -> Result<(), Error> {
        if !self.config.dry_run {
            waiting::lock_all(&mut self.mirrors, &self.config, &*self.watch.progress).await?;
        }
        self.look(look).await?;
        self.all_failed().map_or(Ok(()), Err)
    }

    /// Surveys the mirrors. A mirror that cannot be read no longer takes part.
    async fn look(&mut self, look: &Selection) -> Result<(), Error> {
        let patience = if look.listing == Listing::Everything { LISTING_PATIENCE } else { HEADS_PATIENCE };
        let patience = self.patience(patience);
        let scope = Scope { images: look.images.clone(), all_heads: true, listing: look.listing, patience };
        let stores: Vec<Option<&dyn Store>> = self.mirrors.iter().map(|m| m.is_up().then(|| &*m.store)).collect();
        let views = survey::look(&stores, &scope, &self.policy).await;
        self.views = Vec::new();
        for (mirror, view) in self.mirrors.iter_mut().zip(views) {
            self.views.push(match view {
                Some(Ok(view)) => view,
                Some(Err(e)) => {
                    mirror.fail(e.into());
                    MirrorView::default()
                }
                None => MirrorView::default(),
            });
        }
        if look.all {
            self.look_for_others().await;
        }
        self.mirrors.iter_mut().for_each(|mirror| mirror.lost = mirror.failed.clone());
        Ok(())
    }

    /// How long a mirror may take after the first success: `limit`, or less if the user configured less.
    pub fn patience(&self, limit: Duration) -> Duration {
        limit.min(self.config.patience.max(Duration::from_secs(1)))
    }

    /// Reads on every mirror the heads of all images verified on another mirror, even if its own list does not name
    /// them.
    async fn look_for_others(&mut self) {
        let names = self.verified_images();
        let (patience, policy, up) = (self.patience(HEADS_PATIENCE), &self.policy, mirror::up(&self.mirrors));
        let shown = self.mirrors.iter().zip(&mut self.views).filter(|(mirror, _)| mirror.is_up());
        let asked = shown.map(|(mirror, view)| view.add_heads(&*mirror.store, &names, policy));
        let asked = bridge::in_time(asked, patience, Result::is_ok).await;
        mirror::settle(&mut self.mirrors, up, asked, patience);
    }

    /// The images with a verified head on some mirror.
    pub fn verified_images(&self) -> BTreeSet<Name> {
        self.views.iter().flat_map(MirrorView::verified).cloned().collect()
    }

    /// The newest verified head of an image on any mirror.
    pub fn newest_head(&self, image: &Name) -> Option<&Arc<VerifiedHead>> {
        newest(self.views.iter().filter_map(|view| view.heads.get(image)).filter_map(HeadState::verified))
    }

    /// The verified heads of all images, with the index of the mirror.
    pub fn verified_heads(&self) -> impl Iterator<Item = (usize, &Name, &Head)> {
        self.views.iter().enumerate().flat_map(|(i, view)| {
            view.heads.iter().filter_map(move |(name, state)| Some((i, name, &state.verified()?.head)))
        })
    }

    /// Like [`Self::verified_heads`], without heads older than another mirror's: they are no reason to keep objects on
    /// mirrors that have a newer one.
    pub fn current_heads(&self) -> impl Iterator<Item = (usize, &Name, &Head)> {
        self.verified_heads().filter(|(_, name, head)| !self.is_superseded(name, head))
    }

    /// Whether some mirror has a newer head of this image.
    pub fn is_superseded(&self, image: &Name, head: &Head) -> bool {
        self.newest_head(image).is_some_and(|newest| age(head) < age(&newest.head))
    }

    /// Whether all participating mirrors have the same head of an image, and no unfinished work of another publisher.
    pub fn agrees_on(&self, image: &Name) -> bool {
        let mut up = self.mirrors.iter().zip(&self.views).filter(|(mirror, _)| mirror.is_up());
        let newest = self.newest_head(image).map(|head| &head.file);
        up.all(|(mirror, view)| {
            let own = view.heads.get(image).and_then(HeadState::verified);
            !mirror.is_unfinished() && own.map(|own| &own.file) == newest
        })
    }

    /// The clients to ship with each image; read once.
    ///
    /// # Errors
    /// A file named in mirrors.toml is not a client.
    pub fn programs(&mut self) -> Result<&[Object], Error> {
        let programs = match self.programs.take() {
            Some(programs) => programs,
            None => client::programs(&self.config.clients())?,
        };
        Ok(self.programs.insert(programs))
    }

    /// Clears failures that concern only the previous image. Mirrors that were unreachable, in conflict with another
    /// publisher or unusable from the start stay excluded.
    pub fn forgive(&mut self) {
        for mirror in &mut self.mirrors {
            let lasts = |kind| matches!(kind, ErrorKind::Unreachable | ErrorKind::Conflict);
            let failed = mirror.failed.take().filter(|failure| lasts(failure.kind));
            mirror.failed = mirror.lost.clone().or(failed);
        }
    }

    /// The error if no mirror is left.
    pub fn all_failed(&self) -> Option<Error> {
        mirror::all_failed(&self.mirrors)
    }

    /// Releases the locks and records for the next holder whether each mirror's work is finished.
    pub async fn close(&mut self) {
        let stopped = self.watch.cancel.load(std::sync::atomic::Ordering::Relaxed);
        let unlocked = mirror::unlock_all(&mut self.mirrors);
        if stopped {
            let _ = timeout(STOP_WAIT, unlocked).await;
        } else {
            unlocked.await;
        }
    }
}
