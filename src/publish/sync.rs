//! `sync`: brings the newest versions of every image to every mirror, from the mirrors that have them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::repository::options::Repository;
use super::repository::signer::Signer;
use super::repository::{OpenRepository, Selection};
use super::version::carry_out::carry_out;
use super::version::plan::{Extras, Plan};
use super::version::planned::Previewed;
use super::version::report::{ImagesReport, Report};
use super::version::session::Session;
use crate::error::{Error, ErrorKind};
use crate::format::head::Trust;
use crate::format::name::Name;
use crate::progress::{Event, Watch};
use crate::repo::survey::{HeadState, Listing, TrustPolicy};

/// What to bring to every mirror.
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// The images; empty means all with an accepted head on some mirror.
    pub images: Vec<Name>,
    /// The keys whose signatures are accepted.
    pub policy: TrustPolicy,
}

/// Brings images to every mirror that lacks some of them. If the secret key is available, the head also names mirrors
/// that are new in mirrors.toml; otherwise clients learn of them with the next version.
///
/// # Errors
/// Those of [`publish`](super::publish()); no image, or none that is accepted.
pub async fn sync(repository: &Repository, options: &SyncOptions, watch: &Watch) -> Result<ImagesReport, Error> {
    let look = Selection::at_all(options.images.iter().cloned(), Listing::Nothing);
    let work = async |open: &mut OpenRepository| all(open, options.images.clone()).await;
    OpenRepository::during(repository.clone(), options.policy.clone(), look, watch.clone(), work).await
}

async fn all(repository: &mut OpenRepository, images: Vec<Name>) -> Result<ImagesReport, Error> {
    let mut report = ImagesReport::default();
    let verified = repository.verified_images();
    for name in &images {
        if !verified.contains(name) {
            return Err(refused(repository, name));
        }
    }
    if images.is_empty() {
        report.skipped = skipped(repository);
    }
    let names: Vec<Name> = if images.is_empty() { verified.into_iter().collect() } else { images };
    if names.is_empty() {
        return Err(match report.skipped.keys().next().and_then(|name| name.parse().ok()) {
            Some(name) => refused(repository, &name),
            None => nothing(repository),
        });
    }
    for (name, why) in &report.skipped {
        repository.watch.progress.event(Event::Warning(&format!("{name} is skipped: {why}")));
    }
    let (mut previewed, is_alone) = (Previewed::new(), names.len() == 1);
    for name in names {
        if repository.watch.cancel.load(Ordering::Relaxed) {
            return Err(Error::interrupted());
        }
        match one(repository, name.clone(), &mut previewed).await {
            Ok(done) => report.images.push(done),
            Err(e) if is_alone || e.kind() == ErrorKind::Interrupted => return Err(e),
            // One failed image does not stop the others.
            Err(e) => {
                repository.watch.progress.event(Event::Warning(&format!("{name} is skipped: {e}")));
                report.skipped.insert(name.to_string(), e.to_string());
            }
        }
    }
    Ok(report)
}

/// The error if there is nothing to sync.
fn nothing(repository: &OpenRepository) -> Error {
    match repository.views.iter().flat_map(|view| &view.list.names).next() {
        None => Error::local("there is no image on these mirrors").hint("hfl publish puts one there"),
        Some(name) => lost(name),
    }
}

/// The error for an image that a mirror lists but no mirror has a head of.
fn lost(name: &Name) -> Error {
    let message = format!("{name}: the mirrors list this image, and none of them has a head of it");
    Error::new(ErrorKind::Unverified, message)
        .hint(format!("restore {name}.head from a copy, or publish the image where its secret key is"))
}

/// The images that have heads but no accepted one, and why.
fn skipped(repository: &OpenRepository) -> BTreeMap<String, String> {
    let mut skipped = BTreeMap::new();
    let verified = repository.verified_images();
    let shown = repository.views.iter().flat_map(|view| &view.heads).filter(|(name, _)| !verified.contains(*name));
    for (name, state) in shown {
        let why = match state {
            HeadState::Foreign(_, flaw, _) | HeadState::Damaged(flaw, _) => flaw.what.clone(),
            HeadState::Unreadable(e) => e.to_string(),
            HeadState::Absent | HeadState::Verified(_) => continue,
        };
        skipped.entry(name.to_string()).or_insert(why);
    }
    skipped
}

/// The error for an image that cannot be synced.
fn refused(repository: &OpenRepository, name: &Name) -> Error {
    let is_own = repository.policy.of(name).own;
    match skipped(repository).remove(name.as_str()) {
        None if repository.views.iter().any(|view| view.list.names.contains(name)) => lost(name),
        None => Error::usage(format!("{name}: there is no such image on these mirrors")),
        Some(why) if is_own => Error::new(ErrorKind::Unverified, format!("{name}.head: {why}")).hint(format!(
            "{name} is published here with another key, or its head is damaged; give its key with --key or HFL_KEY"
        )),
        Some(_) => Error::usage(format!("no key is known for {name}"))
            .hint("pin its public key with --key RW..., or accept unsigned images with --unsigned"),
    }
}

async fn one(repository: &mut OpenRepository, name: Name, previewed: &mut Previewed) -> Result<Report, Error> {
    repository.forgive();
    let newest = repository.newest_head(&name).cloned();
    let trust = newest.as_ref().and_then(|head| head.key.clone()).map_or(Trust::Anyone, Trust::Key);
    let signer = Signer::for_copies(repository.config.keyring.as_ref(), &name, trust);
    if let Some(newest) = &newest {
        repository.accept(&name, newest, signer.key.is_some()).await?;
    }
    let session = Session::begin_standing(repository, name, signer).await?;
    let plan = match &session.base.conflict {
        None => session.planner(None, false, &Extras::default()).plan_standing()?,
        // Only a further version resolves the conflict.
        Some(_) if session.signer.can_sign() => again(&session).await?,
        Some(conflict) => return Err(unsettled(conflict)),
    };
    carry_out(session, plan, previewed).await
}

/// The newest version once more, under the next number, with its profile and boot files.
async fn again(session: &Session<'_>) -> Result<Plan, Error> {
    let newest = session.base.head.as_ref().map(|head| head.newest().version);
    let boot = match newest {
        Some(newest) => session.boot_files_of(newest).await?,
        None => Vec::new(),
    };
    let extras = Extras { profiles: session.profiles(None, &[]).await, boot, deltas: None };
    session.planner(None, true, &extras).plan_again()
}

fn unsettled(conflict: &str) -> Error {
    Error::new(ErrorKind::Conflict, conflict)
        .hint("publish or sync with its secret key: the next version goes to all mirrors and resolves this")
}
