//! Blocks and their files: one zlib stream (RFC 1950) of the block's bytes, and nothing after it.
//!
//! Bytes become a [`Block`] in one place only, [`Block::open`], which checks everything; a [`NewBlock`] is made in
//! one place only, `Compressor::seal`, which inflates what it made with a second, independent implementation before
//! it lets it go. The hot paths use libdeflate, the witness is zlib-rs.

#[cfg(feature = "publish")]
mod compress;
mod inflate;

use std::ops::Deref;

#[cfg(feature = "publish")]
use crate::format::digest::BlockId;
use crate::format::digest::Sha256;
use crate::format::index::BlockRow;

use inflate::{InflateError, Inflated, inflate};

#[cfg(feature = "publish")]
pub use compress::{CompressError, Compressor, LEVEL_DEFAULT, LEVEL_MAX};

/// The largest block, in bytes.
pub const BLOCK_MAX_BYTES: u32 = 4 << 20;

/// The largest file that a block of `bytes` may have: no sane encoder exceeds stored blocks (5 bytes for each 16 KiB)
/// by more than this.
pub fn zlib_max_bytes(bytes: u32) -> u64 {
    u64::from(bytes) + u64::from(bytes) / 1024 + 64
}

/// What a server has wrapped in gzip on the way, unasked, if that is what `file` is; at most `max_bytes` of it.
///
/// No object of hfl that clients check begins as gzip does.
pub fn unwrapped(file: &[u8], max_bytes: u64) -> Option<Vec<u8>> {
    const MAGIC: [u8; 2] = [0x1f, 0x8b];
    // The length that a gzip file ends with may be a lie; it is only how much it gets at most.
    let length = u64::from(u32::from_le_bytes(*file.last_chunk()?));
    if !file.starts_with(&MAGIC) || length > max_bytes {
        return None;
    }
    let mut plain = vec![0; length as usize];
    let done = inflate::gunzip(file, &mut plain).ok()?;
    (done.written == plain.len() && done.read == file.len()).then_some(plain)
}

/// The bytes of a block, proved by their SHA-256.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block(Box<[u8]>);

impl Block {
    /// Reads a block's file: the only way from bytes of a mirror, a disk or a network to a block.
    ///
    /// Any valid encoding of the right bytes is accepted, whatever its length.
    ///
    /// # Errors
    /// Says in which way the file is not this block. Nothing is handed out then.
    pub fn open(row: &BlockRow, file: &[u8]) -> Result<Self, BadBlock> {
        if file.is_empty() {
            return Err(BadBlock::Empty);
        }
        if file.len() as u64 > zlib_max_bytes(row.bytes) {
            return Err(BadBlock::Long { limit: zlib_max_bytes(row.bytes) });
        }
        let mut bytes = vec![0; row.bytes as usize];
        match inflate(file, &mut bytes) {
            Ok(Inflated { written, .. }) if written < bytes.len() => {
                return Err(BadBlock::Length { expected: row.bytes, found: Some(written) });
            }
            Ok(Inflated { read, .. }) if read < file.len() => return Err(BadBlock::Trailing(file.len() - read)),
            Ok(_) => {}
            Err(InflateError::Overflow) => return Err(BadBlock::Length { expected: row.bytes, found: None }),
            Err(InflateError::Broken) => return Err(BadBlock::not_zlib(file)),
        }
        if Sha256::of(&bytes) != row.sha256 {
            return Err(BadBlock::Content);
        }
        Ok(Self(bytes.into_boxed_slice()))
    }

    /// Takes bytes that did not come from a block's file (a seed image, say), if they are this block's.
    pub fn from_raw(row: &BlockRow, bytes: &[u8]) -> Option<Self> {
        let fits = bytes.len() == row.bytes as usize && Sha256::of(bytes) == row.sha256;
        fits.then(|| Self(bytes.into()))
    }
}

impl Deref for Block {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Why bytes are not the block they were said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBlock {
    /// No bytes at all.
    #[error("the file is empty")]
    Empty,
    /// A file longer than any encoding of this block.
    #[error("the file is longer than {limit} bytes, more than this block can need")]
    Long {
        /// Bytes.
        limit: u64,
    },
    /// Not a zlib stream, or a damaged one.
    #[error("not a zlib stream, or a damaged one")]
    Broken,
    /// Something that no mirror should answer with.
    #[error("not an hfl object (starts with `{0}`)")]
    Foreign(String),
    /// A stream of another length.
    #[error("expected {expected} bytes inflated, found {}", found.map_or_else(|| "more, or a damaged end".to_owned(), |n| n.to_string()))]
    Length {
        /// Bytes of the block.
        expected: u32,
        /// Bytes of the stream, `None` where it was cut off at the block's length: a stream without its end is read as
        /// if it went on, so this says that it is too long or too short.
        found: Option<usize>,
    },
    /// A good stream and something after it.
    #[error("{0} bytes follow the zlib stream")]
    Trailing(usize),
    /// A good stream of other bytes.
    #[error("SHA-256 mismatch")]
    Content,
}

impl BadBlock {
    fn not_zlib(file: &[u8]) -> Self {
        if file[0] != b'<' {
            return Self::Broken;
        }
        let start = file[..file.len().min(12)].iter().map(|&b| if b.is_ascii_graphic() { char::from(b) } else { ' ' });
        Self::Foreign(start.collect::<String>().trim_end().to_owned())
    }
}

/// A new block: its row, and the bytes of its file.
#[cfg(feature = "publish")]
#[derive(Clone, Debug)]
pub struct NewBlock {
    row: BlockRow,
    file: Vec<u8>,
}

#[cfg(feature = "publish")]
impl NewBlock {
    /// The row that lists it.
    pub fn row(&self) -> &BlockRow {
        &self.row
    }

    /// The bytes of its file.
    pub fn into_file(self) -> Vec<u8> {
        self.file
    }
}

/// Both digests of a block's bytes.
#[cfg(feature = "publish")]
pub fn digests(bytes: &[u8]) -> (BlockId, Sha256) {
    use sha1::Digest as _;
    // Piece by piece, so that the second hash finds in the cache what the first has read.
    const PIECE_BYTES: usize = 32 << 10;
    let (mut sha1, mut sha256) = (sha1::Sha1::new(), sha2::Sha256::new());
    for piece in bytes.chunks(PIECE_BYTES) {
        sha1.update(piece);
        sha256.update(piece);
    }
    (BlockId(sha1.finalize().into()), Sha256(sha256.finalize().into()))
}
