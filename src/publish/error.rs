//! Why an operation did not do what was asked.

use std::path::Path;
use std::{fmt, io};

use crate::boot;
use crate::boot::template::TemplateError;
use crate::repo::{ReadError, ReadErrorKind};
use crate::store::{StoreError, StoreErrorKind};

/// What went wrong, for the program: each is one exit code of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Something on this machine: a file, a disk, an input that cannot be used.
    Local,
    /// The call itself.
    Usage,
    /// Something did not verify.
    Unverified,
    /// No mirror could be reached.
    Unreachable,
    /// Another publisher was faster, or is at work.
    Conflict,
    /// The user stopped it.
    Interrupted,
}

/// A failed operation: a kind for the program, a sentence and perhaps a hint for the person.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
}

impl Error {
    /// An error of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// A local error.
    pub fn local(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Local, message)
    }

    /// An error of the operating system about a file.
    pub fn io(path: &Path, error: &io::Error) -> Self {
        Self::local(StoreError::io(path.display().to_string(), error).to_string())
    }

    /// The user stopped it.
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "interrupted; the work was not finished, and nothing was switched")
    }

    /// The same error with advice.
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// What went wrong, for the program.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What to do about it.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl From<TemplateError> for Error {
    fn from(error: TemplateError) -> Self {
        Self::local(error.to_string())
    }
}

impl From<boot::Error> for Error {
    fn from(error: boot::Error) -> Self {
        let kind = if error.is_usage() { ErrorKind::Usage } else { ErrorKind::Local };
        Self { kind, message: error.to_string(), hint: error.advice().map(str::to_owned) }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let kind = match error.kind() {
            StoreErrorKind::Locked => ErrorKind::Conflict,
            StoreErrorKind::Unreachable => ErrorKind::Unreachable,
            _ => ErrorKind::Local,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        let kind = match error.kind() {
            ReadErrorKind::Unverified => ErrorKind::Unverified,
            ReadErrorKind::Store(StoreErrorKind::Unreachable) => ErrorKind::Unreachable,
            _ => ErrorKind::Local,
        };
        Self { kind, message: error.to_string(), hint: error.advice().map(str::to_owned) }
    }
}
