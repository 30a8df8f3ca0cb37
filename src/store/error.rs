//! Errors of stores.

use std::io;
use std::time::Duration;

use crate::error::{Error, ErrorKind, sentence};
use crate::format::layout::RepoPath;

/// What went wrong, for the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The object does not exist.
    NotFound,
    /// The object is longer than the caller's limit.
    TooLong,
    /// Not allowed: permissions, credentials, a read-only disk.
    Denied,
    /// No space left.
    Full,
    /// Another publisher holds the lock.
    Locked,
    /// The store cannot be reached, or is too slow.
    Unreachable,
    /// The store's answer violates the protocol.
    Protocol,
    /// Anything else.
    Other,
}

/// A failed operation on a store: what, where, why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{place}: {why}")]
pub struct StoreError {
    kind: StoreErrorKind,
    place: String,
    why: String,
    retry_after: Option<Duration>,
    cut: bool,
}

impl StoreError {
    /// An error about one object of the store at `location`.
    pub fn at(location: &str, path: &RepoPath, kind: StoreErrorKind, why: impl Into<String>) -> Self {
        let slash = if location.ends_with('/') { "" } else { "/" };
        Self { kind, place: format!("{location}{slash}{path}"), why: why.into(), retry_after: None, cut: false }
    }

    /// An error about the store at `location` as a whole.
    pub fn whole(location: &str, kind: StoreErrorKind, why: impl Into<String>) -> Self {
        Self { kind, place: location.to_owned(), why: why.into(), retry_after: None, cut: false }
    }

    /// An operating system error about the file or directory at `place`.
    pub fn io(place: impl Into<String>, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => StoreErrorKind::NotFound,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreErrorKind::Denied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
            // Errors with which a network file system reports that its server is gone.
            io::ErrorKind::StaleNetworkFileHandle
            | io::ErrorKind::TimedOut
            | io::ErrorKind::NotConnected
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => StoreErrorKind::Unreachable,
            _ => StoreErrorKind::Other,
        };
        Self { kind, place: place.into(), why: sentence(error), retry_after: None, cut: false }
    }

    /// The same, with the delay requested by the store before the next attempt.
    pub fn retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    /// The same, marked as a truncated answer.
    pub fn cut(self) -> Self {
        Self { cut: true, ..self }
    }

    /// Whether the answer began well and was truncated: the server works, but its copy of the object, or a cache's, may
    /// be damaged.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// The delay requested by the store before the next attempt, if any.
    pub fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What went wrong, for the program.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// The reason, without the place.
    pub fn why(&self) -> &str {
        &self.why
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let kind = match error.kind() {
            StoreErrorKind::Locked => ErrorKind::Conflict,
            StoreErrorKind::Unreachable => ErrorKind::Unreachable,
            _ => ErrorKind::Local,
        };
        Self::caused(kind, error)
    }
}
