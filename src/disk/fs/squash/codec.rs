//! Compression of squashfs blocks: each separately, decompressed to at most a given number of bytes.

use std::io::{self, Read};

use crate::error::Error;

/// Maximum block size in bytes; no block has longer back-references.
pub const BLOCK_MAX_BYTES: usize = 1 << 20;
/// Memory limit of xz decompression, in KiB.
const XZ_MEMORY_KIB: u32 = 16 << 10;

/// A compression method.
#[derive(Debug, Clone, Copy)]
pub enum Codec {
    /// One zlib stream.
    Zlib,
    /// One xz stream, with or without filters for machine code.
    Xz,
    /// A raw lz4 block.
    Lz4,
    /// One zstd frame.
    Zstd,
}

impl Codec {
    /// The codec that a superblock names.
    ///
    /// # Errors
    /// A codec that is not supported here.
    pub fn of(number: u16) -> Result<Self, Error> {
        let name = match number {
            1 => return Ok(Self::Zlib),
            4 => return Ok(Self::Xz),
            5 => return Ok(Self::Lz4),
            6 => return Ok(Self::Zstd),
            2 => "lzma, which Linux cannot mount either".to_owned(),
            3 => "lzo".to_owned(),
            other => format!("number {other}, which is not known"),
        };
        let error = Error::local(format!("its squashfs is compressed with {name}"));
        Err(error.hint("make it with mksquashfs -comp zstd, xz, gzip or lz4"))
    }

    /// Decompresses a block to at most `max_bytes`.
    ///
    /// # Errors
    /// Damaged data, or more than that.
    pub fn unpack(self, packed: &[u8], max_bytes: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Zlib => limited(flate2::read::ZlibDecoder::new(packed), max_bytes),
            Self::Xz => limited(lzma_rust2::XzReader::new_mem_limit(packed, false, XZ_MEMORY_KIB), max_bytes),
            Self::Lz4 => {
                let mut block = vec![0; max_bytes];
                let bytes = lz4_flex::block::decompress_into(packed, &mut block).map_err(io::Error::other)?;
                block.truncate(bytes);
                Ok(block)
            }
            Self::Zstd => {
                let window = BLOCK_MAX_BYTES as u64;
                let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(packed, window);
                limited(decoder.map_err(|e| io::Error::other(e.to_string()))?, max_bytes)
            }
        }
    }
}

fn limited(packed: impl Read, max_bytes: usize) -> io::Result<Vec<u8>> {
    let mut block = Vec::new();
    packed.take(max_bytes as u64 + 1).read_to_end(&mut block)?;
    match block.len() <= max_bytes {
        true => Ok(block),
        false => Err(io::Error::other(format!("more than {max_bytes} bytes when unpacked"))),
    }
}
