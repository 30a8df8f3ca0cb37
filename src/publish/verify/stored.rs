//! A block or a delta that a mirror must hold: where it is, and how it is read and checked.

use bytes::Bytes;

use super::findings::{Finding, Object};
use super::objects::{self, Examined};
use crate::format::block::{BlockRow, zlib_max_bytes};
use crate::format::digest::Sha256;
use crate::format::layout::RepoPath;
use crate::repo::survey::{Flaw, Inventory};
use crate::store::Fetch;

/// A block or a delta.
#[derive(Debug, Clone, Copy)]
pub enum Stored {
    /// A block.
    Block(BlockRow),
    /// A delta.
    Delta {
        /// SHA-256 of its file.
        sha256: Sha256,
        /// Size of its file in bytes.
        bytes: u32,
    },
}

impl From<BlockRow> for Stored {
    fn from(row: BlockRow) -> Self {
        Self::Block(row)
    }
}

impl Stored {
    /// Its path.
    pub fn path(&self) -> RepoPath {
        match self {
            Self::Block(row) => RepoPath::block(&row.id),
            Self::Delta { sha256, .. } => RepoPath::delta(sha256),
        }
    }

    /// Size of its file as published, in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Block(row) => row.zlib_bytes.into(),
            Self::Delta { bytes, .. } => (*bytes).into(),
        }
    }

    /// Maximum size of its file in bytes.
    pub fn max_bytes(&self) -> u64 {
        match self {
            Self::Block(row) => zlib_max_bytes(row.bytes),
            Self::Delta { bytes, .. } => (*bytes).into(),
        }
    }

    /// The size that a listing shows, if it shows it.
    pub fn listed(&self, inventory: &Inventory) -> Option<u64> {
        match self {
            Self::Block(row) => inventory.blocks.bytes(&row.id),
            Self::Delta { sha256, .. } => inventory.deltas.get(sha256).copied(),
        }
    }

    /// Reads its file.
    ///
    /// # Errors
    /// The mirror is unreachable.
    pub async fn read(&self, reader: &dyn Fetch) -> Examined<Bytes> {
        match self {
            Self::Block(row) => objects::block(reader, row).await,
            Self::Delta { sha256, bytes } => objects::file(reader, &self.path(), (*bytes).into(), sha256).await,
        }
    }

    /// A problem with it in a mirror's store.
    pub fn finding(&self, flaw: Flaw) -> Finding {
        let object = match *self {
            Self::Block(row) => Object::Block(row),
            Self::Delta { sha256, bytes } => Object::File { bytes: bytes.into(), sha256 },
        };
        Finding::stored(self.path(), flaw, Some(object))
    }
}
