//! The index: the immutable list of one version's blocks, and the extents that map them to the image.
//!
//! An [`Index`] is always valid, as [`Index::new`] and [`Index::parse`] run the same check. The blocks are in the order
//! in which the extents first use them, every byte of every block is used, and the extents cover the image exactly. The
//! text form is specified in [`crate::format`]; there is exactly one for each index.

pub(crate) mod by_name;
mod check;
mod parse;
mod split;
mod write;

use crate::format::block::BlockRow;
use crate::format::digest::Sha256;
use crate::format::name::{Name, Version};
use crate::format::time::Timestamp;

pub use check::IndexError;
pub(crate) use parse::{block_row, rows};
pub use split::{Split, SplitError};
#[cfg(feature = "publish")]
pub(crate) use write::push_block_row;

/// The word that every index begins with.
pub const MAGIC: &str = "HFL-INDEX";
/// Maximum size of an index file, in bytes.
pub const FILE_MAX_BYTES: u64 = 512 << 20;
/// Maximum number of blocks in an index.
pub const BLOCKS_MAX: u64 = 4_194_304;
/// Maximum number of extents in an index.
pub const EXTENTS_MAX: u64 = 16_777_216;
/// Maximum length of a line in bytes, without its LF.
pub const LINE_MAX_BYTES: usize = 160;
/// Maximum size of an image, in bytes.
pub const IMAGE_MAX_BYTES: u64 = 1 << 50;

/// The header of an index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Image name.
    pub image: Name,
    /// Version number.
    pub version: Version,
    /// When this version was published.
    pub created: Timestamp,
    /// Size of the image in bytes, 1 to [`IMAGE_MAX_BYTES`].
    pub size: u64,
    /// The rule by which the image was cut: opaque to readers, used only by publishers.
    pub split: Split,
    /// SHA-256 of the index file of the previous version, if there was one.
    pub parent: Option<Sha256>,
}

/// A run of the image from one source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Length in bytes, at least 1.
    pub bytes: u64,
    /// Source of the bytes.
    pub from: ExtentSource,
}

/// Source of an extent's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExtentSource {
    /// Zeros, which are not stored.
    Hole,
    /// The block at this position of [`Index::blocks`], from this offset on.
    Block {
        /// Position, counted from 0.
        block: u32,
        /// Offset in the block, in bytes.
        offset: u32,
    },
}

impl Extent {
    /// True if `next` continues the source of this extent, so that the two must be merged.
    fn continues_in(&self, next: &Extent) -> bool {
        match (self.from, next.from) {
            (ExtentSource::Hole, ExtentSource::Hole) => true,
            (ExtentSource::Block { block: a, offset }, ExtentSource::Block { block: b, offset: start }) => {
                a == b && u64::from(offset) + self.bytes == u64::from(start)
            }
            _ => false,
        }
    }

    /// Appends this extent to `extents`, merged with the last one if it continues that.
    pub fn push_to(self, extents: &mut Vec<Extent>) {
        match extents.last_mut() {
            Some(last) if last.continues_in(&self) => last.bytes += self.bytes,
            _ => extents.push(self),
        }
    }
}

/// One version's blocks and extents: validated and immutable.
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
    /// Anything that violates the format: see [`IndexError`].
    pub fn new(header: Header, blocks: Vec<BlockRow>, extents: Vec<Extent>) -> Result<Self, IndexError> {
        check::check(&header, &blocks, &extents)?;
        Ok(Self { header, blocks, extents })
    }

    /// The header, without the numbers of rows.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The blocks, in the order in which the extents first use them.
    pub fn blocks(&self) -> &[BlockRow] {
        &self.blocks
    }

    /// The extents, from the image's first byte to its last.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Size of the image in bytes, holes included.
    pub fn size(&self) -> u64 {
        self.header.size
    }

    /// Total compressed size of all blocks, in bytes.
    pub fn zlib_bytes(&self) -> u64 {
        self.blocks.iter().map(|b| u64::from(b.zlib_bytes)).sum()
    }

    /// Total size of the holes, in bytes.
    pub fn hole_bytes(&self) -> u64 {
        self.extents.iter().filter(|e| e.from == ExtentSource::Hole).map(|e| e.bytes).sum()
    }

    /// True if both describe the same image, cut the same way; version and times may differ.
    pub fn same_content(&self, other: &Index) -> bool {
        let rows = |i: &Index| i.blocks.iter().map(|b| (b.id, b.sha256, b.bytes)).collect::<Vec<_>>();
        self.header.size == other.header.size
            && self.header.split == other.header.split
            && self.extents == other.extents
            && rows(self) == rows(other)
    }
}
