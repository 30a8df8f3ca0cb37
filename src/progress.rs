//! What an operation reports while it runs, and whether the user cancels it. The library prints nothing; a binary may
//! show this.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often the cancel flag is checked.
const CANCEL_LOOK: Duration = Duration::from_millis(100);

/// A progress event.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// The operation enters a phase.
    Phase(Phase),
    /// What the phase waits for.
    Step(&'a str),
    /// A problem that does not stop the work.
    Warning(&'a str),
    /// The work on an image starts.
    Start {
        /// Size of the image in bytes; `None` for a stream.
        image_bytes: Option<u64>,
    },
    /// More of the image was read, or skipped as a hole.
    Read {
        /// Number of bytes.
        bytes: u64,
    },
    /// A block was processed.
    Block {
        /// Size in bytes.
        bytes: u64,
        /// Whether the block is new.
        fate: Fate,
    },
    /// More is to be sent to a mirror.
    ToSend {
        /// The mirror's name.
        mirror: &'a str,
        /// Number of bytes.
        bytes: u64,
    },
    /// A mirror has received more.
    Sent {
        /// The mirror's name.
        mirror: &'a str,
        /// Number of bytes.
        bytes: u64,
    },
    /// More of a mirror is to be read and checked.
    ToCheck {
        /// The mirror's name.
        mirror: &'a str,
        /// Number of bytes.
        bytes: u64,
    },
    /// More of a mirror was checked.
    Checked {
        /// The mirror's name.
        mirror: &'a str,
        /// Number of bytes.
        bytes: u64,
    },
    /// More of an image being restored lies where it belongs.
    Restored {
        /// Number of image bytes.
        bytes: u64,
        /// Where they come from.
        from: Origin,
    },
    /// More of what a restore has written was read back.
    ReadBack {
        /// Number of bytes.
        bytes: u64,
    },
}

/// A phase of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The mirrors are locked, and what they hold is read.
    Survey,
    /// The image is opened; before anything else, of every operation.
    Open,
    /// An image is made of a directory.
    Build,
    /// The image is unpacked to a temporary file.
    Unpack,
    /// Kernel and miniroot are prepared.
    Boot,
    /// The image is read, and its new blocks are compressed and sent.
    Read,
    /// Deltas are made.
    Deltas,
    /// What a mirror still lacks is sent to it.
    Send,
    /// The heads are switched.
    Switch,
    /// Versions that are to be retired are looked for.
    OldVersions,
    /// Objects that no version names are looked for.
    Unreferenced,
    /// Such objects are removed.
    Remove,
    /// Indexes and files of the mirrors are checked.
    CheckFiles,
    /// Blocks of the mirrors are checked.
    CheckBlocks,
    /// Damaged objects are replaced.
    Repair,
    /// What lies in the output of a restore already is looked through.
    Check,
    /// Blocks of the old content are moved.
    Move,
    /// Seeds are looked through.
    Seed,
    /// The rest is downloaded.
    Fetch,
    /// What was written is flushed to the medium, read back and compared.
    Verify,
}

impl Phase {
    /// All phases.
    pub const ALL: [Self; 20] = [
        Self::Survey,
        Self::Open,
        Self::Build,
        Self::Unpack,
        Self::Boot,
        Self::Read,
        Self::Deltas,
        Self::Send,
        Self::Switch,
        Self::OldVersions,
        Self::Unreferenced,
        Self::Remove,
        Self::CheckFiles,
        Self::CheckBlocks,
        Self::Repair,
        Self::Check,
        Self::Move,
        Self::Seed,
        Self::Fetch,
        Self::Verify,
    ];

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// Its name for people.
    pub fn text(self) -> &'static str {
        self.words().1
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Survey => ("survey", "reading the mirrors"),
            Self::Open => ("open", "opening the image"),
            Self::Build => ("build", "making an image of the directory"),
            Self::Unpack => ("unpack", "unpacking the image"),
            Self::Boot => ("boot", "preparing the boot files"),
            Self::Read => ("read", "reading the image"),
            Self::Deltas => ("deltas", "making deltas"),
            Self::Send => ("send", "sending to the mirrors"),
            Self::Switch => ("switch", "switching the heads"),
            Self::OldVersions => ("old-versions", "looking for old versions"),
            Self::Unreferenced => ("unreferenced", "looking for unreferenced objects"),
            Self::Remove => ("remove", "removing unreferenced objects"),
            Self::CheckFiles => ("check-files", "checking indexes and files"),
            Self::CheckBlocks => ("check-blocks", "checking blocks"),
            Self::Repair => ("repair", "repairing"),
            Self::Check => ("check", "looking at what is there"),
            Self::Move => ("move", "moving blocks"),
            Self::Seed => ("seed", "reading seeds"),
            Self::Fetch => ("fetch", "downloading"),
            Self::Verify => ("verify", "reading back"),
        }
    }
}

/// Where the bytes of a restored image come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: a hole.
    Hole,
    /// They lay in the output already.
    Kept,
    /// They lay elsewhere in the old content of the output.
    Moved,
    /// A seed.
    Seed,
    /// A mirror.
    Fetched,
}

/// Whether a block of the image is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Already in the repository.
    Known,
    /// New to the repository.
    New,
    /// A repeat within the image.
    Again,
}

/// Receiver of progress events.
pub trait Progress: Send + Sync {
    /// Handles an event; called from many threads.
    fn event(&self, event: Event<'_>);
}

/// Ignores all events.
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// Returns when the user cancels.
pub async fn cancelled(cancel: &AtomicBool) {
    while !cancel.load(Ordering::Relaxed) {
        tokio::time::sleep(CANCEL_LOOK).await;
    }
}

/// Receiver of progress events, and the cancel flag.
#[derive(Clone)]
pub struct Watch {
    /// Receiver of progress events.
    pub progress: Arc<dyn Progress>,
    /// Set when the user cancels.
    pub cancel: Arc<AtomicBool>,
}

impl Watch {
    /// Ignores all events; the cancel flag stays.
    pub fn silenced(&self) -> Self {
        Self { progress: Arc::new(Silent), cancel: Arc::clone(&self.cancel) }
    }

    /// Ignores all events, with a cancel flag that is not set.
    pub fn silent() -> Self {
        Self { progress: Arc::new(Silent), cancel: Arc::default() }
    }
}
