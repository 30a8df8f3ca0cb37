//! The index: the immutable list of one version's blocks, and how they make up the image.
//!
//! [`Index`] cannot be wrong: [`Index::new`] and [`Index::parse`] both go through the same check, so the blocks stand in
//! the order in which the extents first name them, every byte of every block is used, and the extents cover the image
//! exactly. The text form is specified in [`crate::format`]; there is exactly one for each index.

pub(crate) mod by_name;
mod check;
mod parse;
mod split;
mod write;

use crate::format::digest::{BlockId, Sha256};
use crate::format::name::{Name, Version};
use crate::format::time::Timestamp;

pub use check::IndexError;
pub use split::{Split, SplitError};

/// The largest index file, in bytes.
pub const FILE_MAX_BYTES: u64 = 512 << 20;
/// The most blocks of one index.
pub const BLOCKS_MAX: u64 = 4_194_304;
/// The most extents of one index.
pub const EXTENTS_MAX: u64 = 16_777_216;
/// The longest line, in bytes, its LF not counted.
pub const LINE_MAX_BYTES: usize = 160;
/// The largest image, in bytes.
pub const IMAGE_MAX_BYTES: u64 = 1 << 50;

/// What an index says before its rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The image's name.
    pub image: Name,
    /// The number of this version.
    pub version: Version,
    /// When this version was published.
    pub created: Timestamp,
    /// Bytes of the image, 1 to [`IMAGE_MAX_BYTES`].
    pub size: u64,
    /// How the image was cut: kept as it is, and needed by publishers alone.
    pub split: Split,
    /// SHA-256 of the index file of the version before, if there was one.
    pub parent: Option<Sha256>,
}

/// One block as an index lists it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockRow {
    /// Its name: the SHA-1 of its bytes.
    pub id: BlockId,
    /// What decides: the SHA-256 of its bytes.
    pub sha256: Sha256,
    /// Its bytes, 1 to [`crate::format::block::BLOCK_MAX_BYTES`].
    pub bytes: u32,
    /// Bytes of its zlib file, as it was first published.
    pub zlib_bytes: u32,
}

/// A run of the image that comes from one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Bytes of the image that it covers, at least 1.
    pub bytes: u64,
    /// Where they come from.
    pub from: ExtentSource,
}

/// Where the bytes of an extent come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExtentSource {
    /// Zeros that are stored nowhere.
    Hole,
    /// The block at this place of [`Index::blocks`], from this offset in its bytes on.
    Block {
        /// Counted from 0.
        block: u32,
        /// Bytes.
        offset: u32,
    },
}

impl Extent {
    /// True where `next` only goes on where this extent ends, so that the two must be one.
    fn continues_in(&self, next: &Extent) -> bool {
        match (self.from, next.from) {
            (ExtentSource::Hole, ExtentSource::Hole) => true,
            (ExtentSource::Block { block: a, offset }, ExtentSource::Block { block: b, offset: start }) => {
                a == b && u64::from(offset) + self.bytes == u64::from(start)
            }
            _ => false,
        }
    }

    /// Adds `next` to `extents`, as part of the last one where it continues it.
    pub fn push_to(self, extents: &mut Vec<Extent>) {
        match extents.last_mut() {
            Some(last) if last.continues_in(&self) => last.bytes += self.bytes,
            _ => extents.push(self),
        }
    }
}

/// One version's blocks and extents: checked, immutable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Index {
    header: Header,
    blocks: Vec<BlockRow>,
    extents: Vec<Extent>,
}

impl Index {
    /// An index of these parts.
    ///
    /// # Errors
    /// Whatever the format does not allow: see [`IndexError`].
    pub fn new(header: Header, blocks: Vec<BlockRow>, extents: Vec<Extent>) -> Result<Self, IndexError> {
        check::check(&header, &blocks, &extents)?;
        Ok(Self { header, blocks, extents })
    }

    /// What stands before the rows.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The blocks, in the order in which the extents first name them.
    pub fn blocks(&self) -> &[BlockRow] {
        &self.blocks
    }

    /// The extents, from the image's first byte to its last.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Bytes of the image, holes included.
    pub fn size(&self) -> u64 {
        self.header.size
    }

    /// Bytes of all block files together.
    pub fn zlib_bytes(&self) -> u64 {
        self.blocks.iter().map(|b| u64::from(b.zlib_bytes)).sum()
    }

    /// Bytes of the image that lie in holes.
    pub fn hole_bytes(&self) -> u64 {
        self.extents.iter().filter(|e| e.from == ExtentSource::Hole).map(|e| e.bytes).sum()
    }

    /// True where both describe the same image, cut the same way, whenever and as whatever version.
    pub fn same_content(&self, other: &Index) -> bool {
        let rows = |i: &Index| i.blocks.iter().map(|b| (b.id, b.sha256, b.bytes)).collect::<Vec<_>>();
        self.header.size == other.header.size
            && self.header.split == other.header.split
            && self.extents == other.extents
            && rows(self) == rows(other)
    }
}
