//! What an operation tells while it works, and whether the user wants it to end. The library prints nothing; a binary
//! shows this or does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often the user is asked whether to go on.
const CANCEL_LOOK: Duration = Duration::from_millis(100);

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A new step began.
    Step(&'a str),
    /// Something that does not stop the work but should be known.
    Warning(&'a str),
    /// The image has so many bytes (unknown for a stream), and there are so many mirrors.
    Start {
        /// Bytes of the image.
        image_bytes: Option<u64>,
    },
    /// So many more bytes of the image were read, or skipped as a hole.
    Read {
        /// Bytes.
        bytes: u64,
    },
    /// A block was dealt with.
    Block {
        /// Its bytes.
        bytes: u64,
        /// What it was.
        fate: Fate,
    },
    /// A mirror is to be sent so many more bytes.
    ToSend {
        /// The mirror's name.
        mirror: &'a str,
        /// Bytes.
        bytes: u64,
    },
    /// A mirror has so many more of these.
    Sent {
        /// The mirror's name.
        mirror: &'a str,
        /// Bytes.
        bytes: u64,
    },
    /// So many more bytes of a mirror are to be read and checked.
    ToCheck {
        /// The mirror's name.
        mirror: &'a str,
        /// Bytes.
        bytes: u64,
    },
    /// So many more of these were.
    Checked {
        /// The mirror's name.
        mirror: &'a str,
        /// Bytes.
        bytes: u64,
    },
    /// A block was read of an image that is restored.
    Restored {
        /// Bytes of the image.
        bytes: u64,
    },
}

/// What a block of the image was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// A block that the repository has.
    Known,
    /// A block that is new.
    New,
    /// A block that the image itself has twice.
    Again,
}

/// Who is told.
pub trait Progress: Send + Sync {
    /// Takes note of an event; called from many threads.
    fn event(&self, event: Event<'_>);
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// Returns when the user has had enough.
pub async fn cancelled(cancel: &AtomicBool) {
    while !cancel.load(Ordering::Relaxed) {
        tokio::time::sleep(CANCEL_LOOK).await;
    }
}

/// Who is told, and who may stop the work.
#[derive(Clone)]
pub struct Watch {
    /// Who is told.
    pub progress: Arc<dyn Progress>,
    /// Set when the user wants it to end.
    pub cancel: Arc<AtomicBool>,
}

impl Watch {
    /// Nobody is told, and nobody stops it.
    pub fn silent() -> Self {
        Self { progress: Arc::new(Silent), cancel: Arc::default() }
    }
}
