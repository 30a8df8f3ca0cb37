//! What an operation did, for a person and for a program.

use serde::Serialize;

use crate::delta::Tally;

/// The outcome of a publish.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The image's name.
    pub image: String,
    /// The version that is the newest now.
    pub version: u32,
    /// The version that was the newest before, if any.
    pub previous: Option<u32>,
    /// `published`, `no change` or `dry run`.
    pub outcome: Outcome,
    /// Bytes of the image.
    pub size: u64,
    /// The rule by which it was cut.
    pub split: String,
    /// Blocks that the repository did not have.
    pub new: Count,
    /// Blocks that it had.
    pub reused: Count,
    /// Bytes of the image that lie in holes.
    pub hole_bytes: u64,
    /// Bytes of the image that repeat other bytes of it.
    pub repeated_bytes: u64,
    /// Bytes of the index file.
    pub index_bytes: u64,
    /// Seconds from start to end.
    pub seconds: f64,
    /// Bytes of the image per second.
    pub bytes_per_second: f64,
    /// The public key, where the image is signed.
    pub public_key: Option<String>,
    /// Where a key was kept that was made just now.
    pub new_key_file: Option<String>,
    /// Each mirror.
    pub mirrors: Vec<MirrorReport>,
}

/// What became of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A new version.
    Published,
    /// The newest version already is this image.
    NoChange,
    /// Nothing was to be written.
    DryRun,
}

/// Blocks and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of their files.
    pub zlib_bytes: u64,
}

impl From<Tally> for Count {
    fn from(tally: Tally) -> Self {
        Self { blocks: tally.blocks, bytes: tally.bytes, zlib_bytes: tally.zlib_bytes }
    }
}

/// What one mirror got.
#[derive(Debug, Clone, Serialize)]
pub struct MirrorReport {
    /// Its name.
    pub name: String,
    /// Where it is written to.
    pub write: String,
    /// Whether it has the newest version now.
    pub current: bool,
    /// Why it has not.
    pub why: Option<String>,
    /// Blocks sent, or to be sent.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks that were there though no head vouched for them.
    pub found: u64,
    /// Blocks that were there and wrong.
    pub repaired: u64,
}

impl Report {
    /// The mirrors that were left behind.
    pub fn behind(&self) -> impl Iterator<Item = &MirrorReport> {
        self.mirrors.iter().filter(|m| !m.current)
    }
}
