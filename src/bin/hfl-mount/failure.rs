//! What a user hears when it did not work, and the exit code.

use std::fmt::Display;

use hfl::mount::point::PointError;
use hfl::read::{ReadError, ReadErrorKind};
use hfl::store::StoreErrorKind;

/// Something on this machine.
pub const LOCAL: u8 = 1;
/// The command line.
pub const USAGE: u8 = 2;
/// Something did not verify.
pub const UNVERIFIED: u8 = 3;
/// No mirror could be reached.
pub const UNREACHABLE: u8 = 4;

/// An error, ready to be told.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// An error of this exit code.
    pub fn new(code: u8, message: impl Display) -> Self {
        Self { code, message: message.to_string(), hint: None }
    }

    /// The same, with something to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// Prints it.
    pub fn report(&self, json: bool) {
        if json {
            let object = serde_json::json!({ "error": self.message, "hint": self.hint, "code": self.code });
            eprintln!("{object}");
        } else {
            eprintln!("hfl-mount: error: {}", self.message);
            if let Some(hint) = &self.hint {
                eprintln!("hint: {hint}");
            }
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error.kind() {
            ReadErrorKind::Unverified => Self::new(UNVERIFIED, error),
            ReadErrorKind::Store(StoreErrorKind::Unreachable) => {
                let private = error.to_string().contains("invalid peer certificate: unknownissuer");
                let authority = "name the mirror's certificate authority with --ca-file";
                let other = "name a further mirror, or check the network";
                Self::new(UNREACHABLE, error).hint(if private { authority } else { other })
            }
            _ => Self::new(LOCAL, error),
        }
    }
}

impl From<PointError> for Failure {
    fn from(error: PointError) -> Self {
        let failure = Self::new(LOCAL, &error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
