//! A problem with one object of a mirror.

use serde::Serialize;

use crate::store::{StoreError, StoreErrorKind};

/// Kinds of problems, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The object is missing.
    Missing,
    /// The object is truncated.
    Truncated,
    /// Its bytes are different, or prove nothing.
    Wrong,
    /// It is intact, but readers refuse it: it has expired, or is older than what was seen before.
    Refused,
    /// The mirror does not deliver it.
    Unreadable,
    /// The mirror is consistent, but lacks what others have.
    Behind,
    /// Not referenced: harmless, but takes space.
    Stray,
}

/// A problem with one object.
#[derive(Debug, Clone)]
pub struct Flaw {
    /// Kind of problem.
    pub kind: ProblemKind,
    /// Description for the user.
    pub what: String,
}

impl Flaw {
    /// A problem of this kind.
    pub fn new(kind: ProblemKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }

    /// The problem with the object that a store error reports.
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
