//! Why something could not be read or verified.

use std::fmt;
use std::time::Duration;

use super::StateError;
use crate::error::{Error, ErrorKind};
use crate::format::head::Head;
use crate::format::layout::RepoPath;
use crate::format::name::{Name, Version};
use crate::store::{Fetch, StoreError, StoreErrorKind};

/// Kind of error, for the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadErrorKind {
    /// The store failed.
    Store(StoreErrorKind),
    /// An object did not verify.
    Unverified,
    /// No such image, version or source.
    Missing,
}

/// A failed read: what, where, why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ReadError {
    kind: ReadErrorKind,
    message: String,
    hint: Option<String>,
    wait: Option<Duration>,
    may_pass: bool,
}

impl ReadError {
    pub(super) fn new(kind: ReadErrorKind, message: String) -> Self {
        Self { kind, message, hint: None, wait: None, may_pass: false }
    }

    /// Adds advice for the user.
    pub(super) fn hint(self, hint: impl Into<Option<String>>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// The object at `path` does not verify.
    pub fn unverified(store: &dyn Fetch, path: &RepoPath, why: impl fmt::Display) -> Self {
        let place = StoreError::at(store.location(), path, StoreErrorKind::Protocol, why.to_string());
        Self::new(ReadErrorKind::Unverified, place.to_string())
    }

    /// Marks the error as possibly temporary: a signed object vouches for this one, or the answer is not an object at
    /// all. This mirror, or the way to it, does not work at the moment.
    pub(super) fn passing(mut self) -> Self {
        self.may_pass = true;
        self
    }

    /// The store has no such image.
    pub fn no_image(store: &dyn Fetch, image: &Name) -> Self {
        let message = format!("{}: there is no image {image} here (no {image}.head)", store.location());
        Self::new(ReadErrorKind::Missing, message).passing()
    }

    /// The head does not list this version.
    pub fn no_version(head: &Head, version: Version) -> Self {
        let held: Vec<String> = head.versions.iter().take(8).map(|row| row.version.to_string()).collect();
        let more = if head.versions.len() > held.len() { ", ..." } else { "" };
        let message = format!("{} has no version {version}; held: {}{more}", head.image, held.join(", "));
        Self::new(ReadErrorKind::Missing, message)
    }

    /// The file at `path` exceeds the size limit of its kind.
    pub(super) fn too_large(path: &RepoPath, bytes: u64, max_bytes: u64) -> Self {
        Self::new(ReadErrorKind::Unverified, format!("{path}: {bytes} bytes, at most {max_bytes} are read"))
    }

    /// There was no store to ask.
    pub fn no_source() -> Self {
        Self::new(ReadErrorKind::Missing, "no source was given".into())
    }

    /// Kind of error, for the program.
    pub fn kind(&self) -> ReadErrorKind {
        self.kind
    }

    /// Advice for the user.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether the same request may succeed later or from a copy: something does not work at the moment, and nothing
    /// was proven. Of several sources, one is enough.
    pub fn may_pass(&self) -> bool {
        self.may_pass
    }

    /// How long to wait before asking the store again, if it gave a time.
    pub fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// Adds the error of one more source. Keeps the most telling error: failed verification, then store error, then
    /// missing; the first of equals.
    pub(crate) fn add_to(self, failed: &mut Option<Self>) {
        let rank = |e: &Self| match e.kind {
            ReadErrorKind::Unverified => 0,
            ReadErrorKind::Store(_) => 1,
            ReadErrorKind::Missing => 2,
        };
        let may_pass = self.may_pass || failed.as_ref().is_some_and(|before| before.may_pass);
        if failed.as_ref().is_none_or(|before| rank(&self) < rank(before)) {
            *failed = Some(self);
        }
        if let Some(failed) = failed {
            failed.may_pass = may_pass;
        }
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        use StoreErrorKind::{Denied, NotFound, Protocol, TooLong, Unreachable};
        let may_pass = matches!(error.kind(), Unreachable | Denied | NotFound | Protocol | TooLong);
        let kind = ReadErrorKind::Store(error.kind());
        Self { kind, message: error.to_string(), hint: None, wait: error.wait(), may_pass }
    }
}

impl From<StateError> for ReadError {
    fn from(error: StateError) -> Self {
        let hint = match &error {
            StateError::Unreadable { file, .. } => Some(format!(
                "restore {0} from a copy; without {0}, this machine forgets what it has seen",
                file.display()
            )),
            _ => None,
        };
        Self { hint, ..Self::new(ReadErrorKind::Store(StoreErrorKind::Other), error.to_string()) }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        let kind = match error.kind() {
            ReadErrorKind::Unverified => ErrorKind::Unverified,
            ReadErrorKind::Store(StoreErrorKind::Unreachable) => ErrorKind::Unreachable,
            _ => ErrorKind::Local,
        };
        let hint = error.advice().map(str::to_owned);
        Self::caused(kind, error).hint_if(hint)
    }
}
