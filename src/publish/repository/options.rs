//! What an operation is asked to do.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::connect::{Connect, Drivers};
use super::keyring::Keyring;
use super::memory::Memory;
use super::reader::Reader;
use crate::config::Mirrors;
use crate::format::name::{Label, Name};
use crate::split::Choice;
use crate::system::host::{Host, ThisHost};

/// Which repository is worked on, and how: what all operations have in common.
#[derive(Debug, Clone)]
pub struct Repository {
    /// Where the repository is.
    pub mirrors: Mirrors,
    /// What relative paths in it are relative to.
    pub relative_to: PathBuf,
    /// Where keys are; `None` works unsigned.
    pub keyring: Option<Keyring>,
    /// How many days new heads stay fresh.
    pub expires_days: Option<u32>,
    /// How many mirrors must have everything before any head is switched.
    pub min_mirrors: usize,
    /// How long the others may still take then.
    pub patience: Duration,
    /// How it is found out what a mirror holds.
    pub check: Check,
    /// Only says what would be done.
    pub dry_run: bool,
    /// Begins an image, or a mirror, anew where something says that there was one before.
    pub first: bool,
    /// What this machine remembers of what it published.
    pub memory: Memory,
    /// What it remembers of what it read.
    pub reader: Reader,
    /// The machine that publishes.
    pub host: Arc<dyn Host>,
    /// How mirrors are reached.
    pub connect: Arc<dyn Connect>,
}

impl Repository {
    /// How long slow mirrors may take unless something else is said.
    pub const PATIENCE: Duration = Duration::from_secs(3600);

    /// The user's own templates, if there are any.
    pub fn templates(&self) -> Option<PathBuf> {
        self.mirrors.publish.templates.as_ref().map(|directory| self.relative_to.join(directory))
    }

    /// The clients that mirrors.toml names.
    pub fn clients(&self) -> Vec<PathBuf> {
        self.mirrors.publish.client.iter().map(|client| self.relative_to.join(client)).collect()
    }

    /// The repository of `mirrors`, worked on as mirrors.toml and the defaults have it.
    pub fn new(mirrors: Mirrors, relative_to: PathBuf, keyring: Option<Keyring>) -> Self {
        super::connect::keep_secrets_back(&mirrors);
        let expires_days = mirrors.publish.expires_days;
        Self {
            mirrors,
            relative_to,
            keyring,
            expires_days,
            min_mirrors: 1,
            patience: Self::PATIENCE,
            check: Check::default(),
            dry_run: false,
            first: false,
            memory: Memory::default(),
            reader: Reader::default(),
            host: Arc::new(ThisHost),
            connect: Arc::new(Drivers::default()),
        }
    }
}

/// How it is found out which blocks a mirror holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Check {
    /// Its own verified head vouches for them.
    #[default]
    Head,
    /// They are in a listing of the mirror, with the right size.
    List,
}

/// What is to be published.
#[derive(Debug, Clone)]
pub struct PublishOptions {
    /// The image's file, `-` for standard input.
    pub image: PathBuf,
    /// The image's name in the repository.
    pub name: Name,
    /// The profile to ship it with; without, that of the version before is carried over.
    pub profile: Option<PathBuf>,
    /// How it is cut.
    pub split: Choice,
    /// How hard its blocks are compressed.
    pub level: Option<u8>,
    /// What is said of this version.
    pub label: Option<Label>,
    /// What it is to be booted with, if it is.
    pub boot: Option<BootOptions>,
    /// Cores to use.
    pub jobs: usize,
    /// Makes a new version even where nothing has changed.
    pub force: bool,
    /// Publishes it also where it is in use, or seems cut off.
    pub as_it_is: bool,
    /// Where new blocks wait for slow mirrors.
    pub spool_directory: PathBuf,
    /// How many bytes of them may wait on disk.
    pub spool_max_bytes: u64,
}

/// What an image is to be booted with.
#[derive(Debug, Clone, Default)]
pub struct BootOptions {
    /// A directory with `vmlinuz` and `initrd.img`; without, both are made of the image.
    pub directory: Option<PathBuf>,
    /// Added to the kernel's command line in the menus.
    pub append: String,
    /// A static busybox.
    pub busybox: Option<PathBuf>,
    /// Modules besides the usual ones.
    pub modules: Vec<String>,
}
