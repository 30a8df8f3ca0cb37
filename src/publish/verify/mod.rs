//! `verify`: whether every mirror holds what its heads promise; and repairing it from other mirrors where that is asked.
//!
//! What is found is data, a [`Problem`] each; an error means that it could not look. Mirrors are checked side by side.
//! Without being asked to repair it writes nothing and takes no lock; strays are told and never removed.

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
mod strays;

use std::path::PathBuf;

use super::repository::options::Repository;
use crate::error::Error;
use crate::format::name::Name;
use crate::progress::{Watch, cancelled};
use crate::repo::survey::TrustPolicy;
use run::Run;

pub use problem::{Checked, Place, Problem, VerifyReport};

/// What is to be checked.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// The mirrors to check; all where empty. The others only tell what is newest, and repair.
    pub only: Vec<Name>,
    /// The images to check; all where empty.
    pub images: Vec<Name>,
    /// Whose signatures are accepted.
    pub policy: TrustPolicy,
    /// Reads every block.
    pub deep: bool,
    /// How many blocks of each mirror are read otherwise, and through its public URL.
    pub sample: usize,
    /// Repairs what other mirrors have right, or a seed.
    pub repair: bool,
    /// Images whose blocks may be what no mirror has right any more.
    pub seeds: Vec<PathBuf>,
}

/// Checks the mirrors of a repository.
///
/// # Errors
/// No mirror that can be reached; no image, or none for which a key is known; another publisher at work where something is
/// to be repaired; the user.
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
