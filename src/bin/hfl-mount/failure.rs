//! What a user hears when it did not work, and the exit code.

use std::fmt::{self, Display};

use hfl::client::serve::point::PointError;
use hfl::repo::{ReadError, ReadErrorKind};
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
    may_pass: bool,
}

impl Failure {
    /// An error of this exit code.
    pub fn new(code: u8, message: impl Display) -> Self {
        Self { code, message: message.to_string(), hint: None, may_pass: false }
    }

    /// The same, with something to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether it may be over soon: see [`ReadError::may_pass`].
    pub fn may_pass(&self) -> bool {
        self.may_pass
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
        let code = match error.kind() {
            ReadErrorKind::Unverified => UNVERIFIED,
            ReadErrorKind::Store(StoreErrorKind::Unreachable) => UNREACHABLE,
            _ => LOCAL,
        };
        let private = error.to_string().contains("invalid peer certificate: unknownissuer");
        let hint = match error.advice() {
            Some(advice) => Some(advice),
            None if code != UNREACHABLE => None,
            None if private => Some("name the mirror's certificate authority with --ca-file"),
            None => Some("name a further mirror, or check the network"),
        };
        Self { hint: hint.map(str::to_owned), may_pass: error.may_pass(), ..Self::new(code, &error) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
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
