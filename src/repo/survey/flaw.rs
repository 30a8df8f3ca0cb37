//! What is wrong with one object of a mirror.

use serde::Serialize;

use crate::store::{StoreError, StoreErrorKind};

/// What is wrong, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// It is not there.
    Missing,
    /// Its end is not there.
    Truncated,
    /// Other bytes are there, or bytes that prove nothing.
    Wrong,
    /// It is right, and readers refuse it all the same: it has expired, or is older than what was seen before.
    Refused,
    /// The mirror does not hand it out.
    Unreadable,
    /// The mirror is right in itself, but has not got what others have.
    Behind,
    /// Nothing names it: no harm, but space.
    Stray,
}

/// What is wrong with one object.
#[derive(Debug, Clone)]
pub struct Flaw {
    /// What it is.
    pub kind: ProblemKind,
    /// The same for a person.
    pub what: String,
}

impl Flaw {
    /// A flaw of this kind.
    pub fn new(kind: ProblemKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }

    /// What a store's failure says about the object.
    ///
    /// # Errors
    /// The store itself cannot be reached: then nothing is known about the object.
    pub fn of(error: StoreError) -> Result<Self, StoreError> {
        match error.kind() {
            StoreErrorKind::Unreachable => Err(error),
            StoreErrorKind::NotFound => Ok(Self::new(ProblemKind::Missing, "not there")),
            StoreErrorKind::TooLong => Ok(Self::new(ProblemKind::Wrong, format!("too long: {}", error.why()))),
            _ => Ok(Self::new(ProblemKind::Unreadable, error.why())),
        }
    }
}
