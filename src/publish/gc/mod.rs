//! `gc`: old versions go, in two steps. Retiring: the heads stop naming them, a signed record of each is kept. Removing: once
//! a record is older than the grace period, the blocks go that only such versions named.
//!
//! Only what a trusted key signed decides what is removed. What lives is what the newest verified heads of all images name;
//! what may go is what a signed record names, and of that only what belonged to its own version. A mirror on which anything is
//! in doubt, or that has an older head than another one, is left alone, and the others go on: nothing that is removed there is
//! missed by its heads.

mod apply;
mod choice;
mod facts;
mod plan;
mod retire;

use serde::Serialize;

use super::repository::keyring::Keyring;
use super::repository::options::Repository;
use super::repository::{OpenRepository, Selection};
use crate::error::Error;
use crate::format::name::{Name, Version};
use crate::progress::{Event, Watch, cancelled};
use crate::repo::survey::{Listing, TrustPolicy};

pub use choice::Retired;
pub use plan::{MirrorPlan, Pending, Plan};

/// What may go.
#[derive(Debug, Clone)]
pub struct GcOptions {
    /// The images whose old versions are retired; none means all whose secret key is at hand.
    pub images: Vec<Name>,
    /// How many of the newest versions stay, at least 1.
    pub keep: usize,
    /// Versions younger than so many days stay, too.
    pub keep_days: u32,
    /// Versions that go in any case, of the one image that is named.
    pub retire: Vec<Version>,
    /// Days between retiring and removing: as long as a client may go on with a head that it has read.
    pub grace_days: u32,
    /// Retires versions even if more than half of all objects would go with them.
    pub more_than_half: bool,
}

/// What a collection did, or would do.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GcReport {
    /// The images whose heads were looked at.
    pub marked: Vec<Retired>,
    /// What was to be removed, and what became of that.
    pub swept: Plan,
}

/// Retires old versions and removes what was retired long enough ago.
///
/// # Errors
/// No mirror that can be used, or none on which nothing is in doubt; more than half that would go; the user.
pub async fn gc(repository: &Repository, options: &GcOptions, watch: &Watch) -> Result<GcReport, Error> {
    let policy = match &repository.keyring {
        Some(keyring) => TrustPolicy::Known(Keyring::known_keys(keyring)),
        None => TrustPolicy::Anyone,
    };
    let look = Selection::at_all(options.images.iter().cloned(), Listing::Everything);
    let mut open = OpenRepository::open(repository.clone(), policy, look, watch.clone()).await?;
    let report = tokio::select! {
        biased;
        report = run(options, &mut open) => report,
        () = cancelled(&watch.cancel) => Err(Error::interrupted()),
    };
    open.close().await;
    report
}

async fn run(options: &GcOptions, repository: &mut OpenRepository) -> Result<GcReport, Error> {
    let watch = repository.watch.clone();
    watch.progress.event(Event::Step("looking for old versions"));
    let marked = retire::retire(options, repository).await?;
    watch.progress.event(Event::Step("looking for what nothing names any more"));
    repository.forgive();
    let mut facts = facts::gather(options, repository, &marked).await?;
    if repository.config.dry_run {
        facts.assume_retired(&marked, repository);
    }
    let mut plan = Plan::compute(&facts);
    for warning in &plan.warnings {
        watch.progress.event(Event::Warning(warning));
    }
    if let Some(error) = plan.nowhere(&facts) {
        return Err(error);
    }
    if !repository.config.dry_run && !plan.is_empty() {
        watch.progress.event(Event::Step("removing what nothing names any more"));
        apply::apply(&mut plan, repository).await?;
    }
    Ok(GcReport { marked: marked.into_iter().map(|retired| retired.report).collect(), swept: plan })
}
