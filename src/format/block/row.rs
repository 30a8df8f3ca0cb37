//! The row of a block in an index: its names, and its sizes.

use crate::format::digest::{BlockId, Sha256};

/// The row of one block in an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockRow {
    /// Name: the SHA-1 of its bytes.
    pub id: BlockId,
    /// The SHA-256 of its bytes, which verifies the contents.
    pub sha256: Sha256,
    /// Uncompressed size in bytes, 1 to [`super::BLOCK_MAX_BYTES`].
    pub bytes: u32,
    /// Compressed size in bytes, as first published.
    pub zlib_bytes: u32,
}
