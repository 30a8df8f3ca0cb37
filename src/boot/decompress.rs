//! Kernel modules as stored in an image, plain or compressed; decompressed up to a limit.
//!
//! A miniroot is compressed as a whole, and its `insmod` does not support compression.

use std::io::{self, Read};

/// Maximum size of a module in bytes, decompressed.
pub const MODULE_MAX_BYTES: u64 = 32 << 20;
/// Memory limit of xz decompression, in KiB: what `xz -9` needs.
const XZ_MEMORY_KIB: u32 = 128 << 10;

/// The name of a module without directory and extension (`.ko` and the like), with `_` for `-`; `None` if it is not a
/// module.
pub fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let stem = [".ko", ".ko.gz", ".ko.xz", ".ko.zst"].iter().find_map(|end| file.strip_suffix(end))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    (!stem.is_empty() && stem.len() <= 64 && stem.chars().all(plain)).then(|| normal(stem))
}

/// A module's name in the kernel's form.
pub fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// Decompresses a module.
///
/// # Errors
/// Damaged data; more than [`MODULE_MAX_BYTES`].
pub fn unpack(file: Vec<u8>) -> io::Result<Vec<u8>> {
    match file.get(..4) {
        Some([0x1f, 0x8b, ..]) => limited(flate2::read::MultiGzDecoder::new(&file[..])),
        Some([0xfd, b'7', b'z', b'X']) => limited(lzma_rust2::XzReader::new_mem_limit(&file[..], true, XZ_MEMORY_KIB)),
        Some([0x28, 0xb5, 0x2f, 0xfd]) => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(&file[..]);
            limited(decoder.map_err(|e| io::Error::other(e.to_string()))?)
        }
        _ => Ok(file),
    }
}

fn limited(packed: impl Read) -> io::Result<Vec<u8>> {
    let mut module = Vec::new();
    packed.take(MODULE_MAX_BYTES + 1).read_to_end(&mut module)?;
    match module.len() as u64 {
        0..=MODULE_MAX_BYTES => Ok(module),
        _ => Err(io::Error::other(format!("more than {MODULE_MAX_BYTES} bytes when unpacked"))),
    }
}
