//! `verify`: whether every mirror holds what its heads promise; and mending it from other mirrors where that is asked.
//!
//! What is found is data, a [`Problem`] each; an error means that it could not look. Mirrors are checked side by side.
//! Without being asked to repair it writes nothing and takes no lock; strays are told and never removed.

mod believe;
mod blocks;
mod examine;
mod files;
pub(super) mod heads;
mod ledger;
mod look;
mod problem;
mod public;
mod repair;
mod retired;
mod roster;
mod run;
mod shelf;
mod steps;
mod strays;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::error::Error;
use super::progress::{Progress, cancelled};
use crate::mirrors::Mirrors;
use crate::name::Name;
use run::Run;

pub use believe::Believe;
pub use problem::{Checked, Place, Problem, ProblemKind, VerifyReport};

/// What is to be checked.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Where the repository is.
    pub mirrors: Mirrors,
    /// What relative paths in it are relative to.
    pub relative_to: PathBuf,
    /// The mirrors to check; all where empty. The others only tell what is newest, and heal.
    pub only: Vec<Name>,
    /// The images to check; all where empty.
    pub images: Vec<Name>,
    /// Whose heads are believed.
    pub believe: Believe,
    /// Reads every block.
    pub deep: bool,
    /// How many blocks of each mirror are read otherwise, and through its public URL.
    pub sample: usize,
    /// Mends what other mirrors have right.
    pub repair: bool,
}

/// Checks the mirrors of a repository.
///
/// # Errors
/// No mirror that can be reached; no image, or none for which a key is known; another publisher at work where something is
/// to be repaired; the user.
pub async fn verify(
    options: VerifyOptions,
    progress: Arc<dyn Progress>,
    cancel: Arc<AtomicBool>,
) -> Result<VerifyReport, Error> {
    let mut run = Run::open(options, progress).await?;
    let done = tokio::select! {
        report = run.work() => report,
        () = cancelled(&cancel) => Err(Error::interrupted()),
    };
    run.close().await;
    done
}
