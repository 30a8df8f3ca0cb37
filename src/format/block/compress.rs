//! Compression of blocks.

use std::io::Read as _;

use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::StreamingDecoder;
use zstd_safe::CCtx;

use super::codec::Codec;
use super::{BlockRow, NewBlock};
use crate::format::digest::{BlockId, Sha256};

/// Compresses blocks with one codec; each thread has its own.
pub struct Compressor {
    encoder: Encoder,
    witness: Witness,
    packed: Vec<u8>,
}

enum Encoder {
    Zlib(libdeflater::Compressor),
    Zstd(CCtx<'static>, u8),
}

/// A second implementation of the codecs, which decodes what was encoded.
struct Witness {
    zlib: Decompress,
    unpacked: Vec<u8>,
}

impl Compressor {
    /// A compressor for `codec`; a level above the codec's highest means that one.
    pub fn new(codec: Codec) -> Self {
        let encoder = match codec {
            Codec::Zlib(level) => {
                let level = libdeflater::CompressionLvl::new(i32::from(level));
                let level = level.unwrap_or_else(|_| libdeflater::CompressionLvl::best());
                Encoder::Zlib(libdeflater::Compressor::new(level))
            }
            Codec::Zstd(level) => Encoder::Zstd(CCtx::create(), level.min(Codec::ZSTD_MAX)),
        };
        Self { encoder, witness: Witness { zlib: Decompress::new(true), unpacked: Vec::new() }, packed: Vec::new() }
    }

    /// Compresses the block with these bytes and digests, and verifies that the file decodes to the same bytes.
    ///
    /// # Errors
    /// When a second implementation does not reproduce the bytes: faulty hardware or a bug in a codec.
    pub fn seal(&mut self, bytes: &[u8], id: BlockId, sha256: Sha256) -> Result<NewBlock, CompressError> {
        let length = self.encoder.encode(bytes, &mut self.packed).ok_or(CompressError { id })?;
        let file = self.packed[..length].to_vec();
        let is_right = match self.encoder {
            Encoder::Zlib(_) => self.witness.inflates_to(&file, bytes),
            Encoder::Zstd(..) => self.witness.decodes_to(&file, bytes),
        };
        if !is_right {
            return Err(CompressError { id });
        }
        let row = BlockRow { id, sha256, bytes: bytes.len() as u32, zlib_bytes: length as u32 };
        Ok(NewBlock { row, file })
    }
}

impl Encoder {
    /// Writes the file to the start of `out`, and returns its length.
    fn encode(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let bound = match self {
            Self::Zlib(deflate) => deflate.zlib_compress_bound(bytes.len()),
            Self::Zstd(..) => zstd_safe::compress_bound(bytes.len()),
        };
        out.resize(bound.max(out.len()), 0);
        match self {
            Self::Zlib(deflate) => deflate.zlib_compress(bytes, out).ok(),
            Self::Zstd(context, level) => context.compress(&mut out[..], bytes, i32::from(*level)).ok(),
        }
    }
}

impl Witness {
    /// Whether `file` is one zlib stream of `bytes`.
    fn inflates_to(&mut self, file: &[u8], bytes: &[u8]) -> bool {
        self.zlib.reset(true);
        self.unpacked.resize(self.unpacked.len().max(bytes.len() + 1), 0);
        let status = self.zlib.decompress(file, &mut self.unpacked[..bytes.len() + 1], FlushDecompress::Finish);
        matches!(status, Ok(Status::StreamEnd))
            && self.zlib.total_in() == file.len() as u64
            && self.zlib.total_out() == bytes.len() as u64
            && self.unpacked[..bytes.len()] == *bytes
    }

    /// Whether `file` is one zstd frame of `bytes`.
    fn decodes_to(&mut self, mut file: &[u8], bytes: &[u8]) -> bool {
        self.unpacked.clear();
        let read = match StreamingDecoder::new(&mut file) {
            Ok(decoder) => decoder.take(bytes.len() as u64 + 1).read_to_end(&mut self.unpacked).is_ok(),
            Err(_) => false,
        };
        read && file.is_empty() && self.unpacked == bytes
    }
}

/// A compressed file that does not decode to the original bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("block {id} did not survive compression: faulty memory or a fault in the codec; nothing was published")]
pub struct CompressError {
    /// Name of the block.
    pub id: BlockId,
}
