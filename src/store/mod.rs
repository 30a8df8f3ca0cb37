//! Stores: bytes at relative paths, wherever they lie.
//!
//! A store knows no block, index or head. [`Fetch`] is what readers need, [`Store`] what a mirror needs to be written
//! to; every protocol is one driver behind them, and retry, limits and faults are wrappers around them.

pub mod arrival;
#[cfg(feature = "publish")]
mod backoff;
pub mod cache_mark;
mod caller;
pub mod directory;
mod error;
#[cfg(feature = "ftp")]
pub mod ftp;
#[cfg(feature = "publish")]
mod holder;
pub mod http;
#[cfg(feature = "publish")]
pub mod key;
#[cfg(feature = "publish")]
mod lease;
#[cfg(feature = "publish")]
pub mod lock;
#[cfg(feature = "publish")]
pub mod place;
#[cfg(feature = "publish")]
pub mod protocol;
#[cfg(feature = "publish")]
pub mod protocols;
#[cfg(feature = "publish")]
pub mod rate_limit;
#[cfg(feature = "publish")]
pub mod retry;
#[cfg(feature = "rsync")]
pub mod rsync;
#[cfg(feature = "s3")]
pub mod s3;
#[cfg(feature = "publish")]
mod secret;
#[cfg(feature = "sftp")]
pub mod sftp;
#[cfg(feature = "webdav")]
pub mod webdav;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::format::layout::RepoPath;

pub use error::{StoreError, StoreErrorKind};
#[cfg(feature = "publish")]
pub use secret::Secret;

/// Whether a cache between a reader and the server may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It may, with whatever it keeps.
    Cached,
    /// It may not, unless the server has just confirmed what it keeps: HTTP's `Cache-Control: no-cache`.
    Confirmed,
}

impl Freshness {
    /// What the first request for an object asks for: what may be replaced must never come out of a cache.
    pub fn of(path: &RepoPath) -> Self {
        if path.is_immutable() { Self::Cached } else { Self::Confirmed }
    }
}

/// Reads whole objects. Stores and wrappers implement [`Fetch::get_with`] alone; [`Fetch::get`] is made of it.
#[async_trait]
pub trait Fetch: Send + Sync + fmt::Debug {
    /// The object at `path`. Stores without caches on the way ignore `freshness`.
    ///
    /// # Errors
    /// [`StoreErrorKind::TooLong`] for an object of more than `max_bytes`, of which no more than that is ever read.
    async fn get_with(&self, path: &RepoPath, max_bytes: u64, freshness: Freshness) -> Result<Bytes, StoreError>;

    /// The object at `path`, as fresh as its kind requires.
    ///
    /// # Errors
    /// Those of [`Fetch::get_with`].
    async fn get(&self, path: &RepoPath, max_bytes: u64) -> Result<Bytes, StoreError> {
        self.get_with(path, max_bytes, Freshness::of(path)).await
    }

    /// The store's base for messages, without secrets.
    fn location(&self) -> &str;
}

/// What became of an object that was to be new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was not there and is now.
    Created,
    /// Something was there already and was left as it is.
    Exists,
}

/// What became of a replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// The new bytes stand.
    Done,
    /// Somebody else had changed the object; it was left as it is.
    Changed,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies.
    pub path: RepoPath,
    /// Its bytes.
    pub bytes: u64,
}

/// How far a store's [`Store::put_new`] can be relied upon when two writers meet at one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusive {
    /// Exactly one of them is told [`Put::Created`].
    Always,
    /// So the protocol says, but not every server keeps to it: it has to be tried.
    Claimed,
    /// The driver looks before it writes: both may be told so when they meet within one request.
    CheckThenWrite,
}

/// Held while a publisher works on a store. It must be released; dropping it leaves that to its expiry.
#[async_trait]
pub trait Lock: Send + Sync + fmt::Debug {
    /// Whether the one who held it before went away in the middle of the work, so that objects may lie there which no
    /// head names.
    fn unfinished(&self) -> bool {
        false
    }

    /// Whether it is certain at this moment that nobody else holds it: to be asked right before anything that cannot be
    /// undone. It costs nothing; where it is false, [`Lock::confirm`] finds out.
    fn is_certain(&self) -> bool {
        true
    }

    /// Returns once it is certain that nobody else holds it, and nobody has held it since it was taken.
    ///
    /// # Errors
    /// [`StoreErrorKind::Locked`] where it was lost.
    async fn confirm(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Lets the next one in, and tells it whether the work was `finished`.
    async fn release(&self, finished: bool);
}

/// A mirror that can be written to.
///
/// Objects appear whole or not at all, whatever dies in between.
#[async_trait]
pub trait Store: Fetch {
    /// Creates an object where there is none.
    async fn put_new(&self, path: &RepoPath, bytes: Bytes) -> Result<Put, StoreError>;

    /// Creates or replaces an object, whatever was there.
    async fn put_replace(&self, path: &RepoPath, bytes: Bytes) -> Result<(), StoreError>;

    /// Replaces an object only where it still has the bytes `old` (`None`: where there still is none).
    async fn swap(&self, path: &RepoPath, old: Option<&[u8]>, new: Bytes) -> Result<Swap, StoreError>;

    /// Bytes of the object, `None` where there is none.
    async fn size(&self, path: &RepoPath) -> Result<Option<u64>, StoreError>;

    /// Every object below `prefix` (a directory, without a slash at its end), in no particular order.
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError>;

    /// Removes an object; one that is not there is no error.
    async fn delete(&self, path: &RepoPath) -> Result<(), StoreError>;

    /// Returns once everything written so far survives a power cut, as far as the protocol lets one ask for that.
    async fn barrier(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Removes what writers that died have left half written. Only for whoever holds the lock.
    async fn sweep(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// A lock of the store's own kind, which ends with its holder and is always certain; `None` where there is none, and a
    /// lock object has to do alone ([`lock::lock`] takes both).
    ///
    /// # Errors
    /// [`StoreErrorKind::Locked`] at once where another one holds it.
    async fn native_lock(&self) -> Result<Option<std::sync::Arc<dyn Lock>>, StoreError> {
        Ok(None)
    }

    /// How far [`Store::put_new`] can be relied upon.
    fn exclusive(&self) -> Exclusive;

    /// How many objects are best under way at the same time.
    fn jobs(&self) -> usize {
        32
    }

    /// True where asking for the size of an object costs next to nothing.
    fn is_local(&self) -> bool {
        false
    }
}
