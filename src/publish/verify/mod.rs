//! `verify`: checks that every mirror holds what its heads promise; on request, repairs it from other mirrors.
//!
//! Problems are data, a [`Problem`] each; an error means that the check itself failed. Mirrors are checked
//! concurrently. Without `repair` it writes nothing and takes no lock; strays are reported and never removed.

mod blocks;
mod expected;
mod files;
mod findings;
mod objects;
mod problem;
mod public;
mod repair;
mod required;
mod retired;
mod run;
mod seeds;
mod steps;
mod stored;
mod strays;

use std::path::PathBuf;

use super::repository::options::Repository;
use crate::error::Error;
use crate::format::name::Name;
use crate::progress::{Watch, cancelled};
use crate::repo::survey::TrustPolicy;
use run::Run;

pub use problem::{Checked, Place, Problem, VerifyReport};

/// Options of a check.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// The mirrors to check; all if empty. The others only serve to find the newest heads and as repair sources.
    pub only: Vec<Name>,
    /// The images to check; all if empty.
    pub images: Vec<Name>,
    /// The keys whose signatures are accepted.
    pub policy: TrustPolicy,
    /// Whether to read every block.
    pub deep: bool,
    /// How many blocks of each mirror are read without `deep`, and through its public URL.
    pub sample: usize,
    /// Whether to repair from intact copies on other mirrors, or from a seed.
    pub repair: bool,
    /// Images that may contain blocks of which no mirror has an intact copy any more.
    pub seeds: Vec<PathBuf>,
}

/// Checks the mirrors of a repository.
///
/// # Errors
/// No mirror is reachable; there is no image, or none with a known key; another publisher holds the lock during a
/// repair; the user cancelled.
pub async fn verify(repository: &Repository, options: &VerifyOptions, watch: &Watch) -> Result<VerifyReport, Error> {
    let mut run = Run::open(repository.clone(), options.clone(), watch.clone()).await?;
    let done = tokio::select! {
        biased;
        report = run.work() => report,
        () = cancelled(&watch.cancel) => Err(Error::interrupted()),
    };
    run.close().await;
    done
}
