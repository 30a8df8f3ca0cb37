//! Findings while they are being made: with what is needed to repair them.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::problem::{Checked, Place, Problem};
use crate::format::digest::Sha256;
use crate::format::index::BlockRow;
use crate::format::layout::RepoPath;
use crate::format::name::Name;
use crate::format::signature::PublicKey;
use crate::repo::survey::{Flaw, ProblemKind};

/// What an object should be, so that it can be had from elsewhere.
#[derive(Debug, Clone)]
pub enum Object {
    /// A block.
    Block(BlockRow),
    /// An index or another file that a head names.
    File {
        /// Its bytes.
        bytes: u64,
        /// Its digest.
        sha256: Sha256,
    },
    /// The signature of such a file.
    Signature {
        /// The file.
        of: RepoPath,
        /// Its bytes.
        bytes: u64,
        /// Its digest.
        sha256: Sha256,
        /// Whose it may be, where that is known.
        keys: Vec<PublicKey>,
    },
    /// The list of images.
    Images {
        /// The list as it was found.
        old: Option<Bytes>,
        /// What it should hold.
        names: BTreeSet<Name>,
    },
    /// The head of an image.
    Head {
        /// The image.
        image: Name,
        /// The head as it was found.
        old: Option<Bytes>,
    },
}

/// A problem of one mirror, and what would repair it.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Where it shows.
    pub place: Place,
    /// The object.
    pub path: RepoPath,
    /// What is wrong.
    pub flaw: Flaw,
    /// What it should be; `None` where verify cannot repair it.
    pub object: Option<Object>,
    /// Whether it is repaired.
    pub repaired: bool,
}

impl Finding {
    /// A problem in the store.
    pub fn stored(path: RepoPath, flaw: Flaw, object: Option<Object>) -> Self {
        Self { place: Place::Store, path, flaw, object, repaired: false }
    }

    /// A problem that shows only through the public URL.
    pub fn public(path: RepoPath, flaw: Flaw) -> Self {
        Self { place: Place::Public, path, flaw, object: None, repaired: false }
    }

    /// As a report has it.
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
    /// What is wrong.
    pub list: Vec<Finding>,
    /// How much was looked at.
    pub checked: Checked,
}

impl Findings {
    /// Counts an object that was read whole.
    pub fn read(&mut self, bytes: u64) {
        self.checked.read += 1;
        self.checked.bytes_read += bytes;
    }

    /// Adds findings.
    pub fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.list.extend(findings);
    }

    /// The paths of what is wrong in the store.
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
