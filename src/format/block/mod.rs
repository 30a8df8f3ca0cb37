//! Blocks and their files: one zlib stream (RFC 1950) or one zstd frame (RFC 8878) of the block's bytes, and nothing
//! after it.
//!
//! A [`Block`] comes from a file only by [`Block::open`], which verifies everything. A [`NewBlock`] is made only by
//! `Compressor::seal`, which first decodes the result with a second, independent implementation. The hot paths use
//! libdeflate and libzstd; the checks use zlib-rs and ruzstd.

#[cfg(feature = "publish")]
mod codec;
#[cfg(feature = "publish")]
mod compress;
mod inflate;
mod pack;
mod row;
mod zstd;

use std::ops::Deref;

#[cfg(feature = "publish")]
use crate::format::digest::BlockId;
use crate::format::digest::Sha256;

#[cfg(feature = "publish")]
pub(crate) use inflate::inflate as inflate_stream;
use inflate::{InflateError, Inflated, inflate};

#[cfg(feature = "publish")]
pub use codec::{Codec, CodecError};
#[cfg(feature = "publish")]
pub use compress::{CompressError, Compressor};
pub use pack::packed;
pub use row::BlockRow;

/// Maximum size of a block, in bytes.
pub const BLOCK_MAX_BYTES: u32 = 4 << 20;

/// Maximum compressed size of a block of `bytes`: no sane encoder exceeds stored blocks (5 bytes per 16 KiB in zlib, 3
/// per 128 KiB in zstd) by more than this.
pub fn zlib_max_bytes(bytes: u32) -> u64 {
    u64::from(bytes) + u64::from(bytes) / 1024 + 64
}

/// The contents of `file`, at most `max_bytes`, if a server has gzipped it in transit unasked; otherwise `None`.
///
/// No hfl object that clients verify begins with the gzip magic.
pub fn unwrapped(file: &[u8], max_bytes: u64) -> Option<Vec<u8>> {
    const MAGIC: [u8; 2] = [0x1f, 0x8b];
    // The length in the gzip trailer is not trusted: it only limits the output.
    let length = u64::from(u32::from_le_bytes(*file.last_chunk()?));
    if !file.starts_with(&MAGIC) || length > max_bytes {
        return None;
    }
    let mut plain = vec![0; length as usize];
    let done = inflate::gunzip(file, &mut plain).ok()?;
    (done.written == plain.len() && done.read == file.len()).then_some(plain)
}

/// The bytes of a block, verified by their SHA-256.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block(Box<[u8]>);

impl Block {
    /// Decodes and verifies a block's file: the only way from a file of a mirror, disk or network to a block.
    ///
    /// Any valid encoding of the right bytes is accepted, up to [`zlib_max_bytes`].
    ///
    /// # Errors
    /// Why the file is not this block.
    pub fn open(row: &BlockRow, file: &[u8]) -> Result<Self, BadBlock> {
        Self::decoded(row, file, if zstd::is_frame(file) { zstd::decode } else { inflate })
    }

    /// Decodes and verifies a delta of a block: a zstd frame whose encoder saw `prefix`, the bytes of one or two other
    /// blocks, before the block.
    ///
    /// # Errors
    /// Why the file with this prefix is not this block.
    pub fn open_delta(row: &BlockRow, prefix: &[u8], file: &[u8]) -> Result<Self, BadBlock> {
        Self::decoded(row, file, |file: &[u8], out: &mut [u8]| zstd::decode_after(prefix, file, out))
    }

    fn decoded(
        row: &BlockRow,
        file: &[u8],
        decode: impl FnOnce(&[u8], &mut [u8]) -> Result<Inflated, InflateError>,
    ) -> Result<Self, BadBlock> {
        if file.is_empty() {
            return Err(BadBlock::Empty);
        }
        if file.len() as u64 > zlib_max_bytes(row.bytes) {
            return Err(BadBlock::Long { limit: zlib_max_bytes(row.bytes) });
        }
        let mut bytes = vec![0; row.bytes as usize];
        match decode(file, &mut bytes) {
            Ok(Inflated { written, .. }) if written < bytes.len() => {
                return Err(BadBlock::Length { expected: row.bytes, found: Some(written) });
            }
            Ok(Inflated { read, .. }) if read < file.len() => return Err(BadBlock::Trailing(file.len() - read)),
            Ok(_) => {}
            Err(InflateError::Overflow) => return Err(BadBlock::Length { expected: row.bytes, found: None }),
            Err(InflateError::Broken) => return Err(BadBlock::undecodable(file)),
        }
        if Sha256::of(&bytes) != row.sha256 {
            return Err(BadBlock::Content);
        }
        Ok(Self(bytes.into_boxed_slice()))
    }

    /// The block of these uncompressed bytes (of a seed image, for example), and the SHA-256 that tells which it is.
    pub fn of(bytes: Vec<u8>) -> (Sha256, Self) {
        (Sha256::of(&bytes), Self(bytes.into_boxed_slice()))
    }
}

impl Deref for Block {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Why a file is not the expected block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBlock {
    /// No bytes at all.
    #[error("the file is empty")]
    Empty,
    /// Longer than any encoding of this block.
    #[error("the file is longer than {limit} bytes, more than this block can need")]
    Long {
        /// Maximum compressed size of the block, in bytes.
        limit: u64,
    },
    /// Neither a zlib stream nor a zstd frame, or a damaged one.
    #[error("neither a zlib stream nor a zstd frame, or a damaged one")]
    Broken,
    /// Another kind of file, such as HTML; with its first characters.
    #[error("not an hfl object (starts with `{0}`)")]
    Foreign(String),
    /// A stream of the wrong uncompressed length.
    #[error("expected {expected} bytes decoded, found {}", found.map_or_else(|| "more, or a damaged end".to_owned(), |n| n.to_string()))]
    Length {
        /// Size of the block, in bytes.
        expected: u32,
        /// Uncompressed size of the stream, in bytes. `None` if it did not end at the block's length: the stream is
        /// longer, or its end is missing.
        found: Option<usize>,
    },
    /// A valid stream with this many bytes after it.
    #[error("{0} bytes follow the compressed block")]
    Trailing(usize),
    /// A valid stream of other bytes.
    #[error("SHA-256 mismatch")]
    Content,
}

impl BadBlock {
    fn undecodable(file: &[u8]) -> Self {
        if file[0] != b'<' {
            return Self::Broken;
        }
        let start = file[..file.len().min(12)].iter().map(|&b| if b.is_ascii_graphic() { char::from(b) } else { ' ' });
        Self::Foreign(start.collect::<String>().trim_end().to_owned())
    }
}

/// A new block: its row and its compressed file.
#[cfg(feature = "publish")]
#[derive(Clone, Debug)]
pub struct NewBlock {
    row: BlockRow,
    file: Vec<u8>,
}

#[cfg(feature = "publish")]
impl NewBlock {
    /// The block's row in an index.
    pub fn row(&self) -> &BlockRow {
        &self.row
    }

    /// The contents of its file.
    pub fn into_file(self) -> Vec<u8> {
        self.file
    }
}

/// Both digests of a block's bytes.
#[cfg(feature = "publish")]
pub fn digests(bytes: &[u8]) -> (BlockId, Sha256) {
    use sha1::Digest as _;
    // In pieces, so that the second hash reads from the CPU cache.
    const PIECE_BYTES: usize = 32 << 10;
    let (mut sha1, mut sha256) = (sha1::Sha1::new(), sha2::Sha256::new());
    for piece in bytes.chunks(PIECE_BYTES) {
        sha1.update(piece);
        sha256.update(piece);
    }
    (BlockId(sha1.finalize().into()), Sha256(sha256.finalize().into()))
}
