//! `gc` removes old versions in two steps. Retiring: the heads stop naming them, and a signed record of each is kept.
//! Removing: once a record is older than the grace period, the blocks that only such versions named are removed.
//!
//! Only objects signed by a trusted key decide what is removed. Live is what the newest verified heads of all images
//! name. Removable is what a signed record names, limited to the files of its own version. A mirror that is in doubt,
//! or has an older head than another mirror, is skipped while the others go on: its heads lose nothing by removal
//! elsewhere.

mod apply;
mod choice;
mod deltas;
mod facts;
mod plan;
mod retire;

use serde::Serialize;

use super::repository::keyring::Keyring;
use super::repository::options::Repository;
use super::repository::{OpenRepository, Selection};
use crate::error::Error;
use crate::format::name::{Name, Version};
use crate::progress::{Event, Phase, Watch, cancelled};
use crate::repo::survey::{Listing, TrustPolicy};

pub use choice::Retired;
pub use plan::{MirrorPlan, Pending, Plan};

/// What to retire and remove.
#[derive(Debug, Clone)]
pub struct GcOptions {
    /// The images whose old versions are retired; empty means all images whose secret key is available.
    pub images: Vec<Name>,
    /// How many of the newest versions to keep, at least 1.
    pub keep: usize,
    /// Versions younger than this many days are kept too.
    pub keep_days: u32,
    /// Versions to retire regardless, of the one image in `images`.
    pub retire: Vec<Version>,
    /// Days between retiring and removing. Must cover the time a client may use a head after reading it.
    pub grace_days: u32,
    /// Retires versions even if that removes more than half of all objects.
    pub more_than_half: bool,
}

/// The result of a collection, real or dry run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GcReport {
    /// The result of retiring, for each image.
    pub marked: Vec<Retired>,
    /// What was to be removed, and the result.
    pub swept: Plan,
}

/// Retires old versions and removes versions past their grace period.
///
/// # Errors
/// No usable mirror, or every mirror in doubt; more than half of all objects would go; interrupted by the user.
pub async fn gc(repository: &Repository, options: &GcOptions, watch: &Watch) -> Result<GcReport, Error> {
    let policy = match &repository.keyring {
        Some(keyring) => TrustPolicy::Known(Keyring::known_keys(keyring)),
        None => TrustPolicy::Anyone,
    };
    let look = Selection::at_all(options.images.iter().cloned(), Listing::Everything);
    OpenRepository::during(repository.clone(), policy, look, watch.clone(), async |open| {
        tokio::select! {
            biased;
            report = run(options, open) => report,
            () = cancelled(&watch.cancel) => Err(Error::interrupted()),
        }
    })
    .await
}

async fn run(options: &GcOptions, repository: &mut OpenRepository) -> Result<GcReport, Error> {
    let watch = repository.watch.clone();
    watch.progress.event(Event::Phase(Phase::OldVersions));
    let marked = retire::retire(options, repository).await?;
    watch.progress.event(Event::Phase(Phase::Unreferenced));
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
        watch.progress.event(Event::Phase(Phase::Remove));
        apply::apply(&mut plan, repository).await?;
    }
    Ok(GcReport { marked: marked.into_iter().map(|retired| retired.report).collect(), swept: plan })
}
