//! Stores: objects at relative paths, over any protocol.
//!
//! A store knows nothing of blocks, indexes or heads. [`Fetch`] is what readers need, [`Store`] what publishers need to
//! write a mirror. Each protocol is one driver behind these traits; retry, limits and fault injection are wrappers
//! around them.

pub mod arrival;
#[cfg(feature = "publish")]
mod backoff;
pub mod cache_mark;
mod caller;
pub mod directory;
mod error;
#[cfg(feature = "ftp")]
pub mod ftp;
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
mod process;
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

/// Whether a cache between reader and server may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It may, with any stored copy.
    Cached,
    /// Only after the server has revalidated the stored copy: HTTP's `Cache-Control: no-cache`.
    Confirmed,
}

impl Freshness {
    /// The freshness that the first request for an object asks for: mutable objects must never come from a cache.
    pub fn of(path: &RepoPath) -> Self {
        if path.is_immutable() { Self::Cached } else { Self::Confirmed }
    }
}

/// Reads whole objects. Stores and wrappers implement only [`Fetch::get_with`]; [`Fetch::get`] calls it.
#[async_trait]
pub trait Fetch: Send + Sync + fmt::Debug {
    /// Returns the object at `path`. Stores without caches in between ignore `freshness`.
    ///
    /// # Errors
    /// [`StoreErrorKind::TooLong`] for an object of more than `max_bytes`; no more than that is ever read.
    async fn get_with(&self, path: &RepoPath, max_bytes: u64, freshness: Freshness) -> Result<Bytes, StoreError>;

    /// Returns the object at `path`, as fresh as its kind requires.
    ///
    /// # Errors
    /// Those of [`Fetch::get_with`].
    async fn get(&self, path: &RepoPath, max_bytes: u64) -> Result<Bytes, StoreError> {
        self.get_with(path, max_bytes, Freshness::of(path)).await
    }

    /// The store's base location for messages, without secrets.
    fn location(&self) -> &str;
}

/// Outcome of an exclusive create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object was created.
    Created,
    /// An object already exists and was left unchanged.
    Exists,
}

/// Outcome of a compare-and-swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// The object was replaced.
    Done,
    /// Another writer had changed the object; it was left unchanged.
    Changed,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path relative to the store's base.
    pub path: RepoPath,
    /// Size in bytes.
    pub bytes: u64,
}

/// How reliable a store's [`Store::put_new`] is when two writers create the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusive {
    /// Exactly one of them gets [`Put::Created`].
    Always,
    /// The protocol guarantees it, but not every server complies: it has to be tested.
    Claimed,
    /// The driver checks before it writes: two writers within one request may both get [`Put::Created`].
    CheckThenWrite,
}

/// Held while a publisher works on a store. It must be released; if dropped, it is freed only when it expires.
#[async_trait]
pub trait Lock: Send + Sync + fmt::Debug {
    /// Whether the previous holder stopped before it finished, so that unreferenced objects may exist.
    fn unfinished(&self) -> bool {
        false
    }

    /// Whether it is certain at this moment that there is no other holder. Check it right before anything irreversible.
    /// It costs nothing; where it is false, [`Lock::confirm`] finds out.
    fn is_certain(&self) -> bool {
        true
    }

    /// Returns once it is certain that there is no other holder, and has been none since the lock was taken.
    ///
    /// # Errors
    /// [`StoreErrorKind::Locked`] where the lock was lost.
    async fn confirm(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Releases the lock and records for the next holder whether the work was `finished`.
    async fn release(&self, finished: bool);
}

/// A writable mirror.
///
/// Objects appear whole or not at all, even if the writer or the server crashes.
#[async_trait]
pub trait Store: Fetch {
    /// Creates an object unless one exists.
    async fn put_new(&self, path: &RepoPath, bytes: Bytes) -> Result<Put, StoreError>;

    /// Creates or replaces an object unconditionally.
    async fn put_replace(&self, path: &RepoPath, bytes: Bytes) -> Result<(), StoreError>;

    /// Replaces an object only if its bytes still equal `old` (`None`: only if there still is none).
    async fn swap(&self, path: &RepoPath, old: Option<&[u8]>, new: Bytes) -> Result<Swap, StoreError>;

    /// Size of the object in bytes, `None` where there is none.
    async fn size(&self, path: &RepoPath) -> Result<Option<u64>, StoreError>;

    /// Lists every object below `prefix` (a directory, without a trailing slash), in no particular order.
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError>;

    /// Removes an object; a missing one is not an error.
    async fn delete(&self, path: &RepoPath) -> Result<(), StoreError>;

    /// Returns once everything written so far survives a power cut, as far as the protocol can guarantee that.
    async fn barrier(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Removes partly written files of dead writers. Requires the lock.
    async fn sweep(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// The store's native lock, which ends with its holder and is always certain; `None` where there is none and a lock
    /// object has to suffice ([`lock::lock`] takes both).
    ///
    /// # Errors
    /// [`StoreErrorKind::Locked`] at once where another publisher holds it.
    async fn native_lock(&self) -> Result<Option<std::sync::Arc<dyn Lock>>, StoreError> {
        Ok(None)
    }

    /// How reliable [`Store::put_new`] is.
    fn exclusive(&self) -> Exclusive;

    /// The best number of concurrent requests.
    fn jobs(&self) -> usize {
        32
    }

    /// True where querying an object's size costs next to nothing.
    fn is_local(&self) -> bool {
        false
    }
}
