//! Why nothing to boot from could be made of an image.

use std::path::Path;
use std::{fmt, io};

use crate::store::StoreError;

/// One sentence, and perhaps advice.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    message: String,
    hint: Option<String>,
    usage: bool,
}

impl Error {
    /// An error about an image, a file or a program.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, usage: false }
    }

    /// An error in what was asked for.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { usage: true, ..Self::new(message) }
    }

    /// An error of the operating system about a file.
    pub fn io(path: &Path, error: &io::Error) -> Self {
        Self::new(StoreError::io(path.display().to_string(), error).to_string())
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

    /// What to do about it.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether the call itself was wrong.
    pub fn is_usage(&self) -> bool {
        self.usage
    }
}
