//! Findings during a check, with what is needed to repair them.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::problem::{Checked, Place, Problem};
use crate::format::block::BlockRow;
use crate::format::digest::Sha256;
use crate::format::layout::RepoPath;
use crate::format::name::Name;
use crate::format::signature::PublicKey;
use crate::repo::survey::{Flaw, ProblemKind};

/// The expected object, so that it can be copied from another mirror.
#[derive(Debug, Clone)]
pub enum Object {
    /// A block.
    Block(BlockRow),
    /// An index or another file named by a head.
    File {
        /// Size in bytes.
        bytes: u64,
        /// SHA-256 digest.
        sha256: Sha256,
    },
    /// The signature of such a file.
    Signature {
        /// Path of the signed file.
        of: RepoPath,
        /// Size of the signed file in bytes.
        bytes: u64,
        /// SHA-256 digest of the signed file.
        sha256: Sha256,
        /// Keys that may have signed it, if known.
        keys: Vec<PublicKey>,
    },
    /// The list of images.
    Images {
        /// Current content of the list.
        old: Option<Bytes>,
        /// The names it should contain.
        names: BTreeSet<Name>,
    },
    /// The head of an image.
    Head {
        /// Image name.
        image: Name,
        /// Current content of the head.
        old: Option<Bytes>,
    },
}

/// A problem of one mirror, and what would repair it.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The side of the mirror where it occurs.
    pub place: Place,
    /// Path of the object.
    pub path: RepoPath,
    /// Kind and description of the problem.
    pub flaw: Flaw,
    /// The expected object; `None` if verify cannot repair it.
    pub object: Option<Object>,
    /// Whether it is repaired.
    pub repaired: bool,
}

impl Finding {
    /// A problem in the store.
    pub fn stored(path: RepoPath, flaw: Flaw, object: Option<Object>) -> Self {
        Self { place: Place::Store, path, flaw, object, repaired: false }
    }

    /// A problem seen only through the public URL.
    pub fn public(path: RepoPath, flaw: Flaw) -> Self {
        Self { place: Place::Public, path, flaw, object: None, repaired: false }
    }

    /// The problem for the report.
    pub fn problem(&self, mirror: &str) -> Problem {
        Problem {
            mirror: mirror.to_owned(),
            place: self.place,
            path: self.path.to_string(),
            kind: self.flaw.kind,
            what: self.flaw.what.clone(),
            repaired: self.repaired,
        }
    }
}

/// The findings of one mirror.
#[derive(Debug, Default)]
pub struct Findings {
    /// The findings.
    pub list: Vec<Finding>,
    /// Statistics of the check.
    pub checked: Checked,
}

impl Findings {
    /// Counts an object that was read in full.
    pub fn read(&mut self, bytes: u64) {
        self.checked.read += 1;
        self.checked.bytes_read += bytes;
    }

    /// Adds findings.
    pub fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.list.extend(findings);
    }

    /// Paths of the damaged objects in the store.
    pub fn damaged(&self) -> BTreeSet<RepoPath> {
        let stored = self.list.iter().filter(|f| f.place == Place::Store && f.flaw.kind != ProblemKind::Stray);
        stored.map(|f| f.path.clone()).collect()
    }

    /// Sorts the findings and counts them.
    pub fn close(&mut self) {
        self.list.sort_by(|a, b| (a.place, a.flaw.kind, &a.path).cmp(&(b.place, b.flaw.kind, &b.path)));
        let repaired = self.list.iter().filter(|f| f.repaired).count();
        let remaining = self.list.iter().filter(|f| !f.repaired && f.flaw.kind != ProblemKind::Stray).count();
        (self.checked.repaired, self.checked.problems) = (repaired as u64, remaining as u64);
    }
}
