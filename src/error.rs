//! Why an operation did not do what was asked: one type for all of them, in both programs.

use std::error::Error as StdError;
use std::path::Path;
use std::sync::Arc;
use std::{fmt, io};

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

impl ErrorKind {
    /// The exit code of a program that ends with such an error.
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

/// A failed operation: a kind for the program, a sentence and perhaps a hint for the person, and the cause.
///
/// The sentence is whole by itself. [`source`](StdError::source) gives the cause as it was, for programs that want to know
/// more of it; whoever prints both says things twice.
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

    /// An error in what was asked for.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// The error that `cause` is.
    pub fn caused(kind: ErrorKind, cause: impl StdError + Send + Sync + 'static) -> Self {
        let message = cause.to_string();
        Self { kind, message, hint: None, source: Some(Arc::new(cause)) }
    }

    /// An error of the operating system about a file.
    pub fn io(path: &Path, error: &io::Error) -> Self {
        Self::local(format!("{}: {}", path.display(), sentence(error)))
    }

    /// The user stopped it.
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

    /// What went wrong, for the program.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What to do about it.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The error as both programs print it with `--json`: `error`, `hint`, `exit`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "error": self.message, "hint": self.hint, "exit": self.kind.exit_code() })
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

/// What the operating system says, without the number that the standard library adds.
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
