//! The profile: the blocks that a boot reads, in the order in which it reads them first.
//!
//! A hint and never a proof: a reader that follows a wrong one fetches blocks for nothing, and every one of them is
//! checked as always. [`Profile`] cannot be wrong in form: [`Profile::new`] and [`Profile::parse`] go through the same
//! check. The text form is specified in [`crate::format`]; there is exactly one for each profile.

mod carry;
mod check;
mod parse;
mod places;
pub mod ship;
mod write;

use crate::format::digest::{BlockId, Sha256};
use crate::format::head::{FileRow, Head};
use crate::format::layout::RepoPath;
use crate::format::name::{Name, Version};

pub use check::ProfileError;

/// The largest profile file, in bytes: more than [`BLOCKS_MAX`] rows of the longest kind.
pub const FILE_MAX_BYTES: u64 = 64 << 20;
/// The most blocks of one profile: boots of 100 GB, and no more than a client of 256 MB can hold.
pub const BLOCKS_MAX: u64 = 524_288;
/// The longest line, in bytes, its LF not counted.
pub const LINE_MAX_BYTES: usize = 160;
/// The latest first read, in milliseconds: 49 days.
pub const MS_MAX: u64 = u32::MAX as u64;

/// The first read of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FirstRead {
    /// The block's name.
    pub id: BlockId,
    /// When, in milliseconds since the start.
    pub ms: u64,
    /// The first byte of the image that was read of it then.
    pub offset: u64,
}

/// The first reads of one boot of one version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    image: Name,
    version: Version,
    reads: Vec<FirstRead>,
}

impl Profile {
    /// A profile of these reads.
    ///
    /// # Errors
    /// Reads that the format does not allow: see [`ProfileError`].
    pub fn new(image: Name, version: Version, reads: Vec<FirstRead>) -> Result<Self, ProfileError> {
        check::check(&reads)?;
        Ok(Self { image, version, reads })
    }

    /// The image.
    pub fn image(&self) -> &Name {
        &self.image
    }

    /// The version that its blocks are those of.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The first reads, the earliest first.
    pub fn reads(&self) -> &[FirstRead] {
        &self.reads
    }

    /// The file as a mirror holds it: its bytes, and the row by which a head names it.
    pub fn to_file(&self) -> (FileRow, Vec<u8>) {
        let file = self.to_bytes();
        let sha256 = Sha256::of(&file);
        let path = RepoPath::profile(&self.image, self.version, &sha256);
        (FileRow { path, bytes: file.len() as u64, sha256 }, file)
    }

    /// The row by which `head` names the profile of `version`, if it names one.
    pub fn row_in(head: &Head, version: Version) -> Option<&FileRow> {
        head.files.iter().find(|row| row.path.is_profile_of(&head.image, version))
    }
}
