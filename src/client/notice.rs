//! Notices of a running mount. The library prints nothing: the caller decides what to do with them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::format::digest::BlockId;
use crate::format::name::{Name, Version};
use crate::repo::{ReadError, Warning};

/// An event.
#[derive(Debug, Clone)]
pub enum Notice {
    /// Something the user should know about an accepted head.
    Accepted {
        /// Image name.
        image: Name,
        /// The warning.
        warning: Warning,
    },
    /// No mirror has an acceptable head; retrying.
    NotOpened {
        /// The last error.
        error: ReadError,
    },
    /// No mirror has an acceptable head; the image was opened from the local mirror.
    OpenedFromCache {
        /// Image version.
        version: Version,
        /// Why no mirror was used.
        why: String,
    },
    /// The disk cache cannot be opened; the image is read without it.
    NotCached {
        /// The cache directory.
        directory: PathBuf,
        /// Error message.
        why: String,
    },
    /// A profile is missing, or cannot be used or stored.
    ProfileUnusable {
        /// What failed, and why.
        what: String,
    },
    /// An update is missing or cannot be used, or its deltas cannot.
    DeltasUnusable {
        /// What failed, and why.
        what: String,
    },
    /// There is a newer version than the one that is read.
    NewerVersion(NewerVersion),
    /// The record of reads cannot be written; retrying.
    NotRecorded {
        /// Error message.
        why: String,
    },
    /// The record of reads lacks the last reads.
    RecordIncomplete {
        /// Error message.
        why: String,
    },
    /// Total of bad disk cache files dropped.
    Dropped {
        /// Number of files.
        files: u64,
    },
    /// A source failed to deliver a block; another one may have it.
    SourceFailed {
        /// Location of the source.
        source: Arc<str>,
        /// The error.
        error: ReadError,
    },
    /// A bad file of the disk cache was dropped; the block is fetched again.
    Healed {
        /// The block.
        block: BlockId,
        /// What was wrong with the file.
        why: String,
    },
    /// The disk cache cannot store blocks; reading continues without it.
    CacheUnusable {
        /// Error message.
        why: String,
    },
    /// No mirror delivers blocks; reads wait.
    Waiting {
        /// The last error.
        error: ReadError,
    },
    /// A read that had to wait has its block.
    Resumed {
        /// How long it waited.
        after: Duration,
    },
    /// A read of the image failed: no source has one of its blocks.
    ReadFailed {
        /// Offset of the read in the image, in bytes.
        offset: u64,
        /// The last error.
        error: ReadError,
    },
}

/// A newer version, and what a reader that has all blocks of the one it reads would download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewerVersion {
    /// Its number.
    pub version: Version,
    /// Size of the new blocks and the index, in bytes.
    pub download_bytes: u64,
    /// The same where deltas are used, if there are any.
    pub download_bytes_with_deltas: Option<u64>,
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
            Notice::ProfileUnusable { what } | Notice::DeltasUnusable { what } => f.write_str(what),
            Notice::NewerVersion(newer) => {
                let mb = |bytes: u64| bytes as f64 / 1e6;
                write!(f, "version {} is there: {:.1} MB to download", newer.version, mb(newer.download_bytes))?;
                match newer.download_bytes_with_deltas {
                    Some(bytes) => write!(f, ", {:.1} MB with deltas", mb(bytes)),
                    None => Ok(()),
                }
            }
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

/// Receives notices; called from any thread, and must not block.
pub trait Observer: Send + Sync + fmt::Debug {
    /// Handles a notice.
    fn notice(&self, notice: Notice);
}

/// Ignores all notices.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {
    fn notice(&self, _notice: Notice) {}
}
