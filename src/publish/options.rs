//! What a publish is asked to do.

use std::path::PathBuf;

use super::keyring::Keyring;
use crate::mirrors::Mirrors;
use crate::name::{Label, Name};
use crate::split::Choice;

/// What is to be published, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The image's file, `-` for standard input.
    pub image: PathBuf,
    /// The image's name in the repository.
    pub name: Name,
    /// Where it goes.
    pub mirrors: Mirrors,
    /// What relative paths in it are relative to.
    pub relative_to: PathBuf,
    /// How it is cut.
    pub split: Choice,
    /// How hard its blocks are compressed.
    pub level: Option<u8>,
    /// What is said of this version.
    pub label: Option<Label>,
    /// Where its key is; `None` publishes unsigned.
    pub keyring: Option<Keyring>,
    /// How many days its head stays fresh.
    pub expires_days: Option<u32>,
    /// Cores to use.
    pub jobs: usize,
    /// Only says what would be done.
    pub dry_run: bool,
    /// Makes a new version even where nothing has changed.
    pub force: bool,
    /// How many mirrors must have everything before any head is switched.
    pub min_mirrors: usize,
    /// Where new blocks wait for slow mirrors.
    pub spool_directory: PathBuf,
    /// How many bytes of them may wait on disk.
    pub spool_max_bytes: u64,
}
