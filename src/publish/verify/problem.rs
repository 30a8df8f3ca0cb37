//! Results of `verify`: problems as data, and statistics for each mirror.

use serde::Serialize;

use crate::repo::survey::ProblemKind;

/// A problem with one object on one mirror.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The mirror's name.
    pub mirror: String,
    /// The side of the mirror where it occurs.
    pub place: Place,
    /// The object, as a path of the repository.
    pub path: String,
    /// Kind of problem.
    pub kind: ProblemKind,
    /// Human-readable description.
    pub what: String,
    /// Whether it is repaired now.
    pub repaired: bool,
}

/// The two sides of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The store that publishers write to.
    Store,
    /// The public URL that clients read.
    Public,
}

impl Problem {
    /// Whether action is needed: not for strays, nor for repaired problems.
    pub fn remains(&self) -> bool {
        !self.repaired && self.kind != ProblemKind::Stray
    }
}

/// The complete result.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// The images that were checked.
    pub images: Vec<String>,
    /// Images without a known key; they were not checked.
    pub unchecked: Vec<String>,
    /// Whether every block was read, not just a sample.
    pub deep: bool,
    /// Problems, grouped by mirror.
    pub problems: Vec<Problem>,
    /// Statistics of each mirror.
    pub mirrors: Vec<Checked>,
    /// Total duration in seconds.
    pub seconds: f64,
}

impl VerifyReport {
    /// The problems that remain.
    pub fn remaining(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.remains())
    }

    /// The mirrors that were unreachable, or became so during the check.
    pub fn unreachable(&self) -> impl Iterator<Item = &Checked> {
        self.mirrors.iter().filter(|mirror| mirror.why.is_some())
    }
}

/// Statistics of one mirror.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Checked {
    /// Mirror name.
    pub name: String,
    /// URL or path of its store.
    pub write: String,
    /// Why its check did not complete.
    pub why: Option<String>,
    /// Objects checked; for most blocks only existence and size.
    pub objects: u64,
    /// Objects that were read in full.
    pub read: u64,
    /// Bytes read, including through the public URL.
    pub bytes_read: u64,
    /// Objects that exist although a listing of the mirror omits them.
    pub unlisted: u64,
    /// Objects that nothing names; unknown unless every index of the repository was read.
    pub strays: Option<u64>,
    /// Total size of the strays in bytes.
    pub stray_bytes: u64,
    /// Problems that remain.
    pub problems: u64,
    /// Problems that were repaired.
    pub repaired: u64,
    /// Duration in seconds.
    pub seconds: f64,
}
