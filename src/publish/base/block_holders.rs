//! The blocks that a repository is known to hold, and the mirrors that hold each.

use std::collections::HashMap;

use crate::error::{Error, ErrorKind};
use crate::format::block::BlockRow;
use crate::format::digest::{BlockId, Sha256};
use crate::format::index::Index;

/// A set of mirrors, by index in mirrors.toml.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MirrorSet(u64);

impl MirrorSet {
    /// This set without `mirror`.
    pub fn without(self, mirror: usize) -> Self {
        Self(self.0 & !(1 << mirror))
    }

    /// This set with `mirror`.
    pub fn with(self, mirror: usize) -> Self {
        Self(self.0 | 1 << mirror)
    }

    /// Whether it contains all mirrors in `other`.
    pub fn contains_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Whether it contains `mirror`.
    pub fn contains(self, mirror: usize) -> bool {
        self.0 >> mirror & 1 == 1
    }

    /// Iterates over the mirrors.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..64).filter(move |&i| self.contains(i))
    }
}

impl FromIterator<usize> for MirrorSet {
    fn from_iter<I: IntoIterator<Item = usize>>(mirrors: I) -> Self {
        mirrors.into_iter().fold(Self::default(), Self::with)
    }
}

/// A block that some mirror's own head vouches for.
#[derive(Debug, Clone, Copy)]
pub struct KnownBlock {
    /// Its row in an index.
    pub row: BlockRow,
    /// The mirrors that hold it.
    pub holders: MirrorSet,
}

/// All blocks that verified heads vouch for.
#[derive(Debug, Default)]
pub struct BlockHolders {
    blocks: HashMap<BlockId, KnownBlock>,
    /// The same blocks by their contents: one hash tells whether a block is known.
    names: HashMap<Sha256, BlockId>,
}

impl BlockHolders {
    /// The block with this ID, if a head vouches for it. A listing may have left it without holders.
    pub fn get(&self, id: &BlockId) -> Option<&KnownBlock> {
        self.blocks.get(id)
    }

    /// The block with these contents, if a head vouches for it.
    pub fn of_contents(&self, sha256: &Sha256) -> Option<&KnownBlock> {
        self.get(self.names.get(sha256)?)
    }

    /// Iterates over all blocks.
    pub fn iter(&self) -> impl Iterator<Item = &KnownBlock> {
        self.blocks.values()
    }

    /// Removes `mirror` as holder of all blocks for which `holds` returns false.
    pub fn keep(&mut self, mirror: usize, holds: impl Fn(&BlockRow) -> bool) {
        for known in self.blocks.values_mut().filter(|known| !holds(&known.row)) {
            known.holders = known.holders.without(mirror);
        }
    }

    /// Adds an index that the head of `mirror` vouches for.
    ///
    /// # Errors
    /// A SHA-1 collision between two indexes.
    pub fn add(&mut self, index: &Index, mirror: usize) -> Result<(), Error> {
        for row in index.blocks() {
            let known = self.blocks.entry(row.id).or_insert_with(|| {
                self.names.insert(row.sha256, row.id);
                KnownBlock { row: *row, holders: MirrorSet::default() }
            });
            if known.row.sha256 != row.sha256 {
                return Err(collision(&row.id));
            }
            known.holders = known.holders.with(mirror);
        }
        Ok(())
    }
}

/// The error for two contents with one block ID, which cannot be published safely.
pub fn collision(id: &BlockId) -> Error {
    let message =
        format!("block {id} has another SHA-256 than the block of that name in the repository: a SHA-1 collision");
    Error::new(ErrorKind::Unverified, message)
        .hint("these images contain a deliberate SHA-1 collision; find the file and remove it")
}
