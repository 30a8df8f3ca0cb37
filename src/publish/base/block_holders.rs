//! The blocks that a repository is known to hold, and which of its mirrors hold each.

use std::collections::HashMap;

use crate::error::{Error, ErrorKind};
use crate::format::digest::BlockId;
use crate::format::index::{BlockRow, Index};

/// A set of mirrors, by their place in mirrors.toml.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MirrorSet(u64);

impl MirrorSet {
    /// This set without one mirror.
    pub fn without(self, mirror: usize) -> Self {
        Self(self.0 & !(1 << mirror))
    }

    /// This set and one more mirror.
    pub fn with(self, mirror: usize) -> Self {
        Self(self.0 | 1 << mirror)
    }

    /// Whether all of the mirrors in `other` are in it.
    pub fn contains_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Whether the mirror is in it.
    pub fn contains(self, mirror: usize) -> bool {
        self.0 >> mirror & 1 == 1
    }

    /// The mirrors in it.
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
    /// As an index lists it.
    pub row: BlockRow,
    /// Who holds it.
    pub holders: MirrorSet,
}

/// All blocks that verified heads vouch for.
#[derive(Debug, Default)]
pub struct BlockHolders(HashMap<BlockId, KnownBlock>);

impl BlockHolders {
    /// The block of this name, if a head vouches for it; a listing may have left it without holders.
    pub fn get(&self, id: &BlockId) -> Option<&KnownBlock> {
        self.0.get(id)
    }

    /// Every block.
    pub fn iter(&self) -> impl Iterator<Item = &KnownBlock> {
        self.0.values()
    }

    /// Takes it that `mirror` holds a block only where `holds` says so.
    pub fn keep(&mut self, mirror: usize, holds: impl Fn(&BlockRow) -> bool) {
        for known in self.0.values_mut().filter(|known| !holds(&known.row)) {
            known.holders = known.holders.without(mirror);
        }
    }

    /// Takes in an index that the head of `mirror` vouches for.
    ///
    /// # Errors
    /// A SHA-1 collision between two indexes.
    pub fn add(&mut self, index: &Index, mirror: usize) -> Result<(), Error> {
        for row in index.blocks() {
            let known = self.0.entry(row.id).or_insert(KnownBlock { row: *row, holders: MirrorSet::default() });
            if known.row.sha256 != row.sha256 {
                return Err(collision(&row.id));
            }
            known.holders = known.holders.with(mirror);
        }
        Ok(())
    }
}

/// Two contents under one name: nothing that could be published safely.
pub fn collision(id: &BlockId) -> Error {
    let message =
        format!("block {id} has another SHA-256 than the block of that name in the repository: a SHA-1 collision");
    Error::new(ErrorKind::Unverified, message).hint(
        "somebody put two different blocks of one SHA-1 into these images on purpose; find the file and remove it",
    )
}
