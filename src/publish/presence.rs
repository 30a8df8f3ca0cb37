//! What is believed about the blocks of a mirror that its head does not vouch for.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::Error;
use crate::digest::BlockId;
use crate::index::BlockRow;
use crate::layout::Kind;
use crate::store::Store;

/// How likely a block is there that no head vouches for.
#[derive(Debug, Clone)]
pub enum Presence {
    /// Hardly: it is sent, and the store says whether it was there.
    Unlikely,
    /// A publisher died there: each is asked for before it is sent.
    Likely,
    /// The mirror was listed.
    Listed(Arc<Listing>),
}

/// The blocks of a mirror and the bytes of their files, as a listing has them. Listings may be cut short or out of date:
/// what is missing from one may be there all the same.
#[derive(Debug, Default)]
pub struct Listing(HashMap<BlockId, u64>);

impl FromIterator<(BlockId, u64)> for Listing {
    fn from_iter<I: IntoIterator<Item = (BlockId, u64)>>(blocks: I) -> Self {
        Self(blocks.into_iter().collect())
    }
}

impl Listing {
    /// Lists the blocks of a store.
    ///
    /// # Errors
    /// A store that cannot be listed.
    pub async fn of(store: &dyn Store) -> Result<Self, Error> {
        let entries = store.list("blocks").await?;
        let blocks = entries.into_iter().filter_map(|entry| match entry.path.kind() {
            Kind::Block(id) => Some((id, entry.bytes)),
            _ => None,
        });
        Ok(Self(blocks.collect()))
    }

    /// Whether a file is listed that can be the block's: an encoding of other bytes may be another library's.
    pub fn may_hold(&self, row: &BlockRow) -> bool {
        self.0.get(&row.id).is_some_and(|bytes| (1..=crate::block::zlib_max_bytes(row.bytes)).contains(bytes))
    }

    /// Whether a file of exactly the published size is listed.
    pub fn holds(&self, row: &BlockRow) -> bool {
        self.0.get(&row.id).is_some_and(|bytes| *bytes == u64::from(row.zlib_bytes))
    }

    /// Every block and the bytes of its file.
    pub fn blocks(&self) -> impl Iterator<Item = (&BlockId, u64)> {
        self.0.iter().map(|(id, bytes)| (id, *bytes))
    }

    /// Bytes of the block's file, if it is listed.
    pub fn bytes(&self, id: &BlockId) -> Option<u64> {
        self.0.get(id).copied()
    }
}
