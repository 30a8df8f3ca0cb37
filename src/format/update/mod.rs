//! An update: the list of deltas from one version of an image to a later one.
//!
//! A delta is a zstd frame of a block whose encoder saw one or two blocks of the older version first. Whoever has those
//! blocks fetches the delta instead of the block. An [`Update`] is always well-formed: [`Update::new`] and
//! [`Update::parse`] run the same check. The text form is specified in [`crate::doc`]; there is exactly one for each
//! update.

mod check;
mod cost;
mod parse;
#[cfg(feature = "publish")]
mod write;

use crate::format::block::BlockRow;
use crate::format::digest::{BlockId, Sha256};
use crate::format::head::{FileRow, Head};
#[cfg(feature = "publish")]
use crate::format::layout::RepoPath;
use crate::format::name::{Name, Version};

pub use check::UpdateError;

/// Maximum size of an update file, in bytes: more than [`DELTAS_MAX`] rows of maximum length with two bases each.
pub const FILE_MAX_BYTES: u64 = 128 << 20;
/// Maximum number of deltas in an update.
pub const DELTAS_MAX: u64 = 262_144;
/// Maximum number of bases in an update.
pub const BASES_MAX: u64 = 2 * DELTAS_MAX;
/// Maximum length of a line in bytes, without its LF.
pub const LINE_MAX_BYTES: usize = 160;
/// Maximum size of the bases of one delta together, in bytes.
pub const PREFIX_MAX_BYTES: u32 = 4 << 20;

/// One delta.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeltaRow {
    /// Name of the block that it makes.
    pub id: BlockId,
    /// Size of its file, in bytes.
    pub bytes: u32,
    /// SHA-256 of its file, which is also its name.
    pub sha256: Sha256,
    /// Positions in [`Update::bases`] of the blocks that its encoder saw, in this order.
    pub bases: Bases,
}

/// One or two positions in [`Update::bases`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bases {
    /// One block.
    One(u32),
    /// Two different blocks.
    Two(u32, u32),
}

impl Bases {
    /// The same blocks by their positions elsewhere.
    #[cfg(feature = "publish")]
    pub fn map(self, mut place: impl FnMut(u32) -> u32) -> Self {
        match self {
            Self::One(first) => Self::One(place(first)),
            Self::Two(first, second) => Self::Two(place(first), place(second)),
        }
    }

    /// The positions.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        let (first, second) = match self {
            Self::One(first) => (first, None),
            Self::Two(first, second) => (first, Some(second)),
        };
        std::iter::once(first).chain(second)
    }
}

/// The deltas from one version to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update {
    image: Name,
    version: Version,
    from: Version,
    bases: Vec<BlockRow>,
    deltas: Vec<DeltaRow>,
}

impl Update {
    /// The update of `image` from version `from` to `version`.
    ///
    /// # Errors
    /// Rows that violate the format: see [`UpdateError`].
    pub fn new(
        image: Name,
        (from, version): (Version, Version),
        bases: Vec<BlockRow>,
        deltas: Vec<DeltaRow>,
    ) -> Result<Self, UpdateError> {
        check::check((from, version), &bases, &deltas)?;
        Ok(Self { image, version, from, bases, deltas })
    }

    /// Image name.
    pub fn image(&self) -> &Name {
        &self.image
    }

    /// The version that the deltas make.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The older version, whose blocks the deltas need.
    pub fn from(&self) -> Version {
        self.from
    }

    /// The blocks of the older version that deltas need, in the order in which these first name them.
    pub fn bases(&self) -> &[BlockRow] {
        &self.bases
    }

    /// The deltas, sorted by the name of the block that they make.
    pub fn deltas(&self) -> &[DeltaRow] {
        &self.deltas
    }

    /// The delta that makes this block, if there is one.
    pub fn delta(&self, id: &BlockId) -> Option<&DeltaRow> {
        self.deltas.binary_search_by(|row| row.id.cmp(id)).ok().map(|at| &self.deltas[at])
    }

    /// The bases of a delta of this update.
    pub fn bases_of(&self, delta: &DeltaRow) -> impl Iterator<Item = &BlockRow> {
        delta.bases.iter().map(|base| &self.bases[base as usize])
    }

    /// The rows of `head` for the updates to `version`, each with the older version.
    pub fn rows_in(head: &Head, version: Version) -> impl Iterator<Item = (Version, &FileRow)> {
        head.files.iter().filter_map(move |row| {
            let (from, to) = row.path.update_of(&head.image)?;
            (to == version).then_some((from, row))
        })
    }

    /// The row of `head` for the update from one version to another.
    pub fn row_between(head: &Head, from: Version, to: Version) -> Option<&FileRow> {
        Self::rows_in(head, to).find(|(older, _)| *older == from).map(|(_, row)| row)
    }

    /// The file as stored on a mirror: its row in a head, and its contents.
    #[cfg(feature = "publish")]
    pub fn to_file(&self) -> (FileRow, Vec<u8>) {
        let file = self.to_bytes();
        let sha256 = Sha256::of(&file);
        let path = RepoPath::update(&self.image, (self.from, self.version), &sha256);
        (FileRow { path, bytes: file.len() as u64, sha256 }, file)
    }
}
