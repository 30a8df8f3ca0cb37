//! Why an operation failed: one type for all operations, in both programs.

use std::error::Error as StdError;
use std::path::Path;
use std::sync::Arc;
use std::{fmt, io};

/// The number of the form of all JSON that the programs print, which has it as `schema`. It changes when a key changes its
/// meaning or goes; new keys may come at any time.
pub const SCHEMA: u32 = 1;

/// Kind of error, for the program; each has one exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A problem on this machine: a file, a disk, unusable input.
    Local,
    /// Wrong usage.
    Usage,
    /// An object did not verify.
    Unverified,
    /// No mirror could be reached.
    Unreachable,
    /// Another publisher was faster, or is active.
    Conflict,
    /// The user interrupted it.
    Interrupted,
}

impl ErrorKind {
    /// Exit code of a program that ends with this error.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Local => 1,
            Self::Usage => 2,
            Self::Unverified => 3,
            Self::Unreachable => 4,
            Self::Conflict => 5,
            Self::Interrupted => 130,
        }
    }
}

/// A failed operation: a kind for the program, a sentence and an optional hint for the user, and the cause.
///
/// The sentence is complete by itself. [`source`](StdError::source) returns the original cause for programs that need
/// details; printing both repeats the text.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    /// A local error.
    pub fn local(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Local, message)
    }

    /// An error in the request.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// An error with the text of `cause`.
    pub fn caused(kind: ErrorKind, cause: impl StdError + Send + Sync + 'static) -> Self {
        let message = cause.to_string();
        Self { kind, message, hint: None, source: Some(Arc::new(cause)) }
    }

    /// An error of the operating system about a file.
    pub fn io(path: &Path, error: &io::Error) -> Self {
        Self::local(format!("{}: {}", path.display(), sentence(error)))
    }

    /// The user interrupted it.
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "interrupted; the work was not finished, and nothing was switched")
    }

    /// The same error about an object, such as a file.
    pub fn about(self, object: &impl fmt::Display) -> Self {
        Self { message: format!("{object}: {}", self.message), ..self }
    }

    /// The same error with advice.
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// The same error with the advice of its cause, if that has any.
    pub fn hint_if(self, hint: Option<impl fmt::Display>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// Kind of error, for the program.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Advice for the user.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The error as both programs print it with `--json`: `schema`, `error`, `hint`, `exit`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "schema": SCHEMA, "error": self.message, "hint": self.hint, "exit": self.kind.exit_code(),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// The operating system's message, without the number that the standard library adds.
pub fn sentence(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_kept_and_not_said_twice() {
        let cause = io::Error::other("the disk is gone");
        let error = Error::caused(ErrorKind::Local, cause).about(&"image.img").hint("put it back");
        assert_eq!(error.to_string(), "image.img: the disk is gone");
        assert_eq!(error.advice(), Some("put it back"));
        assert!(error.source().is_some_and(|source| source.to_string() == "the disk is gone"));
        assert_eq!(error.to_json()["exit"], 1);
    }
}
