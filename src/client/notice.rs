//! What a mount has to tell while it runs. The library prints nothing: whoever mounts decides what becomes of it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::format::digest::BlockId;
use crate::format::name::{Name, Version};
use crate::repo::{ReadError, Warning};

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Notice {
    /// What the user should know of a head that was accepted.
    Accepted {
        /// The image.
        image: Name,
        /// What it is.
        warning: Warning,
    },
    /// No mirror gives a head; they are asked again.
    NotOpened {
        /// What happened last.
        error: ReadError,
    },
    /// No mirror gives a head; what the cache keeps was accepted.
    OpenedFromCache {
        /// The version.
        version: Version,
        /// What the mirrors did.
        why: String,
    },
    /// The disk cache cannot be had; the image is read without it.
    NotCached {
        /// Its directory.
        directory: PathBuf,
        /// Why.
        why: String,
    },
    /// A profile is not there, or cannot be used or kept.
    ProfileUnusable {
        /// What does not work, and why.
        what: String,
    },
    /// The record of what is read cannot be written; that is tried again.
    NotRecorded {
        /// Why.
        why: String,
    },
    /// The record of what was read lacks the last reads.
    RecordIncomplete {
        /// Why.
        why: String,
    },
    /// Bad files of the disk cache were dropped in all.
    Dropped {
        /// How many.
        files: u64,
    },
    /// A source did not give a block; another one may.
    SourceFailed {
        /// Its base.
        source: Arc<str>,
        /// What happened.
        error: ReadError,
    },
    /// A bad file of the disk cache was dropped; the block is fetched again.
    Healed {
        /// The block.
        block: BlockId,
        /// What was wrong with the file.
        why: String,
    },
    /// The disk cache cannot keep blocks; reading goes on without it.
    CacheUnusable {
        /// Why.
        why: String,
    },
    /// No mirror gives blocks any more; reads wait.
    Waiting {
        /// What happened last.
        error: ReadError,
    },
    /// A read that had to wait has its block.
    Resumed {
        /// How long it waited.
        after: Duration,
    },
    /// A read of the image failed: no source gave one of its blocks.
    ReadFailed {
        /// Where the read began, in bytes of the image.
        offset: u64,
        /// What happened last.
        error: ReadError,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Accepted { image, warning } => write!(f, "{image}: {warning}"),
            Notice::NotOpened { error } => write!(f, "{error}; trying again"),
            Notice::OpenedFromCache { version, why } => {
                write!(f, "no mirror can be reached; version {version} is opened from the cache ({why})")
            }
            Notice::NotCached { directory, why } => {
                write!(f, "cache {}: {why}; nothing is cached on disk", directory.display())
            }
            Notice::ProfileUnusable { what } => f.write_str(what),
            Notice::NotRecorded { why } => write!(f, "the record of what is read cannot be written: {why}"),
            Notice::RecordIncomplete { why } => write!(f, "the record of what was read is not complete: {why}"),
            Notice::Dropped { files } => write!(f, "{files} bad files of the cache were dropped"),
            Notice::SourceFailed { error, .. } => write!(f, "a source failed: {error}"),
            Notice::Healed { block, why } => write!(f, "cached block {block} was bad and is fetched again: {why}"),
            Notice::CacheUnusable { why } => write!(f, "nothing is cached on disk for now: {why}"),
            Notice::Waiting { error } => write!(f, "waiting for a mirror that works: {error}"),
            Notice::Resumed { after } => write!(f, "reading goes on after {:.1} s", after.as_secs_f64()),
            Notice::ReadFailed { offset, error } => write!(f, "a read at byte {offset} failed: {error}"),
        }
    }
}

/// Takes notices; called from any thread, and must not block.
pub trait Observer: Send + Sync + fmt::Debug {
    /// Something happened.
    fn notice(&self, notice: Notice);
}

/// Ignores everything.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {
    fn notice(&self, _notice: Notice) {}
}
