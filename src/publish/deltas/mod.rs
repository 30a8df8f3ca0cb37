//! Makes deltas of new blocks on blocks of older versions, for clients that have one of these.
//!
//! Deltas are an offer: whatever prevents them is a warning, and the version is published without them.

mod chooser;
mod encoder;
mod features;
mod image_blocks;
mod make;
mod old_blocks;

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use serde::Serialize;

use crate::error::Error;
use crate::format::digest::Sha256;
use crate::format::head::FileRow;
use crate::format::layout::RepoPath;
use crate::format::signing::SecretKey;
use crate::publish::object::{Files, Object};
use crate::publish::pad::{Pad, Placed};

pub use make::{Ingredients, make};

/// Which deltas are made.
#[derive(Debug, Clone, Default)]
pub struct DeltaOptions {
    /// From how many of the newest versions; 0 for none.
    pub versions: usize,
    /// Copies of old images, so that their blocks need not be read from the mirrors. The first one is of the newest
    /// version, and so on; blocks that a copy does not have are read from the mirrors.
    pub bases: Vec<PathBuf>,
}

/// The deltas of one run, in a temporary file.
#[derive(Debug)]
pub struct Deltas {
    /// The updates, as files, and what they save.
    updates: Vec<(Object, UpdateReport)>,
    files: BTreeMap<Sha256, Placed>,
    pad: Pad,
}

/// What an update costs clients that have the older version.
#[derive(Debug, Clone, Serialize)]
pub struct UpdateReport {
    /// The older version.
    pub from: u32,
    /// Number of blocks that the older version does not have.
    pub blocks: u64,
    /// Size of these blocks as they are published, in bytes: the download without deltas.
    pub block_bytes: u64,
    /// Number of these blocks that have a delta.
    pub deltas: u64,
    /// Size of these deltas in bytes.
    pub delta_bytes: u64,
    /// The download with deltas, including their list, in bytes.
    pub download_bytes: u64,
}

impl Deltas {
    /// The SHA-256 of each delta file, and its size in bytes.
    pub fn sizes(&self) -> impl Iterator<Item = (Sha256, u64)> {
        self.files.iter().map(|(sha256, placed)| (*sha256, placed.bytes().into()))
    }

    /// Number and total size of the delta files.
    pub fn count(&self) -> Files {
        let mut files = Files::default();
        self.files.values().for_each(|placed| files.add(placed.bytes().into()));
        files
    }

    /// The delta with this SHA-256. Blocks the thread.
    ///
    /// # Errors
    /// A failed read of the temporary file; no such delta.
    pub fn object(&self, sha256: &Sha256) -> Result<Object, Error> {
        let placed = self.files.get(sha256).ok_or_else(|| Error::local("no such delta"))?;
        let mut file = Vec::new();
        self.pad.read(*placed, &mut file).map_err(|e| Error::local(format!("the temporary file: {e}")))?;
        Ok(Object::new(RepoPath::delta(sha256), Bytes::from(file)))
    }

    /// The rows of the updates in a head.
    pub fn rows(&self) -> impl Iterator<Item = FileRow> {
        self.updates.iter().map(|(list, _)| list.row())
    }

    /// What the updates save.
    pub fn reports(&self) -> impl Iterator<Item = &UpdateReport> {
        self.updates.iter().map(|(_, report)| report)
    }

    /// The files of the updates, each preceded by its signature if the repository is signed.
    ///
    /// # Errors
    /// A key that cannot sign.
    pub fn lists(&self, key: Option<&SecretKey>) -> Result<Vec<Object>, Error> {
        let mut objects = Vec::new();
        for (list, _) in &self.updates {
            objects.extend(list.clone().with_signature(key)?);
        }
        Ok(objects)
    }
}
