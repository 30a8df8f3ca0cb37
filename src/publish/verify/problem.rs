//! What `verify` found: problems as data, and figures for each mirror.

use serde::Serialize;

use crate::repo::survey::ProblemKind;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The mirror's name.
    pub mirror: String,
    /// Where on the mirror it shows.
    pub place: Place,
    /// The object, as a path of the repository.
    pub path: String,
    /// What it is.
    pub kind: ProblemKind,
    /// The same for a person.
    pub what: String,
    /// Whether it was there and is repaired now.
    pub repaired: bool,
}

/// The two sides of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Where it is written to.
    Store,
    /// Its public URL.
    Public,
}

impl Problem {
    /// Whether it needs somebody: strays do not, nor what was repaired.
    pub fn remains(&self) -> bool {
        !self.repaired && self.kind != ProblemKind::Stray
    }
}

/// All that was found.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// The images that were checked.
    pub images: Vec<String>,
    /// Images for which no key is known here: nothing of theirs was checked.
    pub unchecked: Vec<String>,
    /// Whether every block was read, not a sample.
    pub deep: bool,
    /// What is wrong, mirror by mirror.
    pub problems: Vec<Problem>,
    /// Each mirror.
    pub mirrors: Vec<Checked>,
    /// Seconds from start to end.
    pub seconds: f64,
}

impl VerifyReport {
    /// What is still wrong.
    pub fn remaining(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.remains())
    }

    /// The mirrors that could not be reached, or went away meanwhile.
    pub fn unreachable(&self) -> impl Iterator<Item = &Checked> {
        self.mirrors.iter().filter(|mirror| mirror.why.is_some())
    }
}

/// How much of one mirror was checked.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// Where it is written to.
    pub write: String,
    /// Why it could not be checked to the end.
    pub why: Option<String>,
    /// Objects that were checked: for most blocks, that they are there with the right size.
    pub objects: u64,
    /// Those of them that were read whole.
    pub read: u64,
    /// Bytes that were read, through the public URL too.
    pub bytes_read: u64,
    /// Objects that are there, though a listing of the mirror did not have them.
    pub unlisted: u64,
    /// Objects that nothing names; unknown where not every index of the repository was read.
    pub strays: Option<u64>,
    /// Their bytes.
    pub stray_bytes: u64,
    /// Problems that remain.
    pub problems: u64,
    /// Problems that were repaired.
    pub repaired: u64,
    /// Seconds it took.
    pub seconds: f64,
}
