//! Why a request failed, before the object it was about is added.

use super::wire::{Malformed, Reply};
use crate::format::layout::RepoPath;
use crate::store::{StoreError, StoreErrorKind};

pub const EOF: u32 = 1;
pub const NO_SUCH_FILE: u32 = 2;
const PERMISSION_DENIED: u32 = 3;
pub const FAILURE: u32 = 4;
const UNSUPPORTED: u32 = 8;
const WRITE_PROTECTED: u32 = 12;
const NO_SPACE: u32 = 14;
const QUOTA: u32 = 15;

/// Why a request failed.
#[derive(Debug)]
pub enum Failure {
    /// The server returned an error status.
    Status { code: u32, text: String },
    /// The server has no free space.
    Full(String),
    /// The connection ended, with the reason.
    Lost(String),
    /// The server's reply violates the protocol or what the store needs.
    Nonsense(String),
    /// The object is longer than requested.
    TooLong(String),
    /// Already a complete error: no connection could be made.
    Store(StoreError),
}

impl Failure {
    /// The failure for an unexpected reply.
    pub fn unexpected(reply: Reply) -> Self {
        match reply {
            Reply::Status { code, text } if code != 0 => Self::Status { code, text },
            _ => Self::Nonsense("the server's answer does not fit the request".into()),
        }
    }

    pub fn is_status(&self, wanted: u32) -> bool {
        matches!(self, Self::Status { code, .. } if *code == wanted)
    }

    /// The error for an object of the store at `location`.
    pub fn at(self, location: &str, path: &RepoPath) -> StoreError {
        match self.sentence() {
            Ok((kind, why)) => StoreError::at(location, path, kind, why),
            Err(error) => error,
        }
    }

    /// The error for a location on the server, or for the whole server.
    pub fn whole(self, place: &str) -> StoreError {
        match self.sentence() {
            Ok((kind, why)) => StoreError::whole(place, kind, why),
            Err(error) => error,
        }
    }

    fn sentence(self) -> Result<(StoreErrorKind, String), StoreError> {
        Ok(match self {
            Self::Status { code, text } => (status_kind(code, &text), status_text(code, &text)),
            Self::Full(why) => (StoreErrorKind::Full, why),
            Self::Lost(why) => (StoreErrorKind::Unreachable, why),
            Self::Nonsense(why) => (StoreErrorKind::Protocol, why),
            Self::TooLong(why) => (StoreErrorKind::TooLong, why),
            Self::Store(error) => return Err(error),
        })
    }
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        Self::Nonsense("the server sent an invalid SFTP packet".into())
    }
}

fn status_kind(code: u32, text: &str) -> StoreErrorKind {
    let text = text.to_ascii_lowercase();
    match code {
        NO_SUCH_FILE => StoreErrorKind::NotFound,
        PERMISSION_DENIED | WRITE_PROTECTED => StoreErrorKind::Denied,
        NO_SPACE | QUOTA => StoreErrorKind::Full,
        _ if text.contains("space") || text.contains("quota") => StoreErrorKind::Full,
        UNSUPPORTED => StoreErrorKind::Protocol,
        _ => StoreErrorKind::Other,
    }
}

fn status_text(code: u32, text: &str) -> String {
    let text = if text.is_empty() { "no reason given" } else { text };
    format!("the server says: {} (status {code})", text.trim_end_matches('.').to_lowercase())
}
