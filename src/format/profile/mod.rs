//! The profile: the blocks that a boot reads, in the order of their first reads.
//!
//! Only a prefetch hint: with a wrong profile a reader fetches blocks in vain, and still verifies each of them. A
//! [`Profile`] is always well-formed: [`Profile::new`] and [`Profile::parse`] run the same check. The text form is
//! specified in [`crate::format`]; there is exactly one for each profile.

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

/// Maximum size of a profile file, in bytes: more than [`BLOCKS_MAX`] rows of maximum length.
pub const FILE_MAX_BYTES: u64 = 64 << 20;
/// Maximum number of blocks in a profile: enough for boots of 100 GB, and small enough for a client of 256 MB.
pub const BLOCKS_MAX: u64 = 524_288;
/// Maximum length of a line in bytes, without its LF.
pub const LINE_MAX_BYTES: usize = 160;
/// Maximum time of a first read, in milliseconds: 49 days.
pub const MS_MAX: u64 = u32::MAX as u64;

/// The first read of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FirstRead {
    /// The block's name.
    pub id: BlockId,
    /// Time of the read, in milliseconds since the start.
    pub ms: u64,
    /// Offset in the image of the first byte read, in bytes.
    pub offset: u64,
}

/// The first reads of each block in one boot of one version.
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
    /// Reads that violate the format: see [`ProfileError`].
    pub fn new(image: Name, version: Version, reads: Vec<FirstRead>) -> Result<Self, ProfileError> {
        check::check(&reads)?;
        Ok(Self { image, version, reads })
    }

    /// Image name.
    pub fn image(&self) -> &Name {
        &self.image
    }

    /// The version whose blocks are listed.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The first reads, earliest first.
    pub fn reads(&self) -> &[FirstRead] {
        &self.reads
    }

    /// The file as stored on a mirror: its row in a head, and its contents.
    pub fn to_file(&self) -> (FileRow, Vec<u8>) {
        let file = self.to_bytes();
        let sha256 = Sha256::of(&file);
        let path = RepoPath::profile(&self.image, self.version, &sha256);
        (FileRow { path, bytes: file.len() as u64, sha256 }, file)
    }

    /// The row of `head` for the profile of `version`, if there is one.
    pub fn row_in(head: &Head, version: Version) -> Option<&FileRow> {
        head.files.iter().find(|row| row.path.is_profile_of(&head.image, version))
    }
}
