//! Compressed images, and sparse images of Android: the formats that are unpacked while they are read.
//!
//! Memory is bounded before anything is allocated: a window of at most 128 MiB, which `xz -9` and `zstd --long` stay
//! within.

use std::io::{self, BufRead, Read};

use super::android_sparse::AndroidSparse;

/// Largest window of zstd, as a power of two: that of `zstd --long`.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Limit of the memory for decoding xz, of all threads together, in KiB.
pub(super) const XZ_MEMORY_KIB: u32 = 128 << 10;

/// A format of compressed files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952, in any number of members.
    Gzip,
    /// The .xz format 1.2, in any number of streams.
    Xz,
    /// RFC 8878, in any number of frames.
    Zstd,
    /// bzip2, in any number of streams.
    Bzip2,
    /// The LZ4 frame format 1.6, in any number of frames.
    Lz4,
    /// The sparse images of Android, version 1.
    AndroidSparse,
}

const MAGIC: [(&[u8], Compression); 8] = [
    (b"\x1f\x8b\x08", Compression::Gzip),
    (b"\xfd7zXZ\0", Compression::Xz),
    (b"\x28\xb5\x2f\xfd", Compression::Zstd),
    // A skippable frame: what pzstd writes first.
    (b"\x50\x2a\x4d\x18", Compression::Zstd),
    // The magic number of the first block follows the block size.
    (b"BZh", Compression::Bzip2),
    (b"\x04\x22\x4d\x18", Compression::Lz4),
    (b"\x02\x21\x4c\x18", Compression::Lz4),
    (b"\x3a\xff\x26\xed", Compression::AndroidSparse),
];
const BZIP2_BLOCK: &[u8] = &[0x31, 0x41, 0x59, 0x26, 0x53, 0x59];
const BZIP2_EMPTY: &[u8] = &[0x17, 0x72, 0x45, 0x38, 0x50, 0x90];

impl Compression {
    /// Recognises a format by the first bytes of a file.
    pub fn of(prefix: &[u8]) -> Option<Self> {
        let found = MAGIC.iter().find(|(magic, _)| prefix.starts_with(magic))?.1;
        let block = prefix.get(4..).unwrap_or_default();
        let is_bzip2 = block.starts_with(BZIP2_BLOCK) || block.starts_with(BZIP2_EMPTY);
        (found != Compression::Bzip2 || is_bzip2).then_some(found)
    }

    /// Name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Xz => "xz",
            Compression::Zstd => "zstd",
            Compression::Bzip2 => "bzip2",
            Compression::Lz4 => "lz4",
            Compression::AndroidSparse => "Android sparse image",
        }
    }

    /// Unpacks `input`.
    ///
    /// # Errors
    /// A window that cannot be set.
    pub fn reader(self, input: impl BufRead + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, XZ_MEMORY_KIB)),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
            Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
            Compression::AndroidSparse => Box::new(AndroidSparse::new(input)?),
            Compression::Lz4 => Box::new(Lz4 { decoder: lz4_flex::frame::FrameDecoder::new(input) }),
        })
    }
}

/// All frames of an LZ4 file; the decoder reports the end of each as an end of file.
struct Lz4<R: Read> {
    decoder: lz4_flex::frame::FrameDecoder<R>,
}

impl<R: BufRead> Read for Lz4<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let bytes = self.decoder.read(out)?;
            if bytes > 0 || out.is_empty() || self.decoder.get_mut().fill_buf()?.is_empty() {
                return Ok(bytes);
            }
        }
    }
}
