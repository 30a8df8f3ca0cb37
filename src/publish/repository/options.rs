//! Options of the operations.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::connect::{Connect, Drivers};
use super::keyring::Keyring;
use super::memory::Memory;
use super::reader::Reader;
use crate::config::Mirrors;
use crate::disk::tree::TreeFs;
use crate::format::block::Codec;
use crate::format::name::{Label, Name};
use crate::publish::deltas::DeltaOptions;
use crate::split::Rule;
use crate::system::child;
use crate::system::host::{Host, ThisHost};

/// The repository and the options common to all operations.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The mirrors of the repository.
    pub mirrors: Mirrors,
    /// Base directory of relative paths in mirrors.toml.
    pub relative_to: PathBuf,
    /// Source of keys; with `None`, work is unsigned.
    pub keyring: Option<Keyring>,
    /// Days until new heads expire; `None` for never.
    pub expires_days: Option<u32>,
    /// How many mirrors must have everything before any head is switched.
    pub min_mirrors: usize,
    /// How long the other mirrors may still take after that.
    pub patience: Duration,
    /// How long to wait for another publisher to release the mirrors.
    pub wait: Duration,
    /// How to determine which blocks a mirror holds.
    pub check: Check,
    /// Dry run: only reports what would be done.
    pub dry_run: bool,
    /// Starts an image or a mirror anew even if there is evidence of an earlier one.
    pub first: bool,
    /// This machine's record of what it published.
    pub memory: Memory,
    /// Rollback protection state of this machine as a reader.
    pub reader: Reader,
    /// The publishing machine.
    pub host: Arc<dyn Host>,
    /// Opens the stores of the mirrors.
    pub connect: Arc<dyn Connect>,
}

impl Repository {
    /// Default patience with slow mirrors.
    pub const PATIENCE: Duration = Duration::from_secs(3600);

    /// The user's template directory, if any.
    pub fn templates(&self) -> Option<PathBuf> {
        self.mirrors.publish.templates.as_ref().map(|directory| self.relative_to.join(directory))
    }

    /// Paths of the clients that mirrors.toml names.
    pub fn clients(&self) -> Vec<PathBuf> {
        self.mirrors.publish.client.iter().map(|client| self.relative_to.join(client)).collect()
    }

    /// The repository of `mirrors`, with the options of mirrors.toml and defaults.
    pub fn new(mirrors: Mirrors, relative_to: PathBuf, keyring: Option<Keyring>) -> Self {
        // A program that is started for one mirror must not see the secrets of another.
        mirrors.secret_variables().for_each(child::keep_back);
        let expires_days = mirrors.publish.expires_days;
        Self {
            mirrors,
            relative_to,
            keyring,
            expires_days,
            min_mirrors: 1,
            patience: Self::PATIENCE,
            wait: Duration::ZERO,
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

/// How to determine which blocks a mirror holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Check {
    /// Blocks that the mirror's own verified head vouches for.
    #[default]
    Head,
    /// Blocks that a listing of the mirror contains with the right size.
    List,
}

/// What to publish.
#[derive(Debug, Clone)]
pub struct PublishOptions {
    /// Image file; `-` for standard input.
    pub image: PathBuf,
    /// Image name in the repository.
    pub name: Name,
    /// The profile to ship; `None` carries over that of the previous version.
    pub profile: Option<PathBuf>,
    /// How to cut the image into blocks; `None` for the rule of the version before.
    pub split: Option<Rule>,
    /// The rule for a first version without [`split`](Self::split); `None` for `content`.
    pub split_first: Option<Rule>,
    /// Codec of new blocks.
    pub codec: Codec,
    /// Which deltas are made.
    pub deltas: DeltaOptions,
    /// Label of the version.
    pub label: Option<Label>,
    /// Boot options, if the image is to be bootable.
    pub boot: Option<BootOptions>,
    /// Number of cores to use.
    pub jobs: usize,
    /// Makes a new version even if nothing has changed.
    pub force: bool,
    /// Publishes the image even if it is in use or seems truncated.
    pub as_it_is: bool,
    /// Reads blocks that ext4 calls free as zeros.
    pub zero_free: bool,
    /// Puts the SHA-256 of the whole image into the head.
    pub whole_sha256: bool,
    /// The file system to make of the image, which is a directory.
    pub tree: Option<TreeFs>,
    /// Directory of the spool, where new blocks wait for slow mirrors.
    pub spool_directory: PathBuf,
    /// Maximum size of the spool on disk in bytes.
    pub spool_max_bytes: u64,
}

/// How an image is booted.
#[derive(Debug, Clone, Default)]
pub struct BootOptions {
    /// A directory with `vmlinuz` and `initrd.img`; `None` makes both from the image.
    pub directory: Option<PathBuf>,
    /// Appended to the kernel command line in the menus.
    pub append: String,
    /// Path of a static busybox.
    pub busybox: Option<PathBuf>,
    /// Kernel modules in addition to the defaults.
    pub modules: Vec<String>,
}
