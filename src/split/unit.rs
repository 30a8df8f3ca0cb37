//! The compressed units of a squashfs: where one ends, and how much it unpacks to.
//!
//! Sources: RFC 8878 for zstd, the .xz file format 1.2.1, RFC 1950 for zlib, which squashfs calls gzip. An xz unit states
//! its size in its block header, as one does that was compressed in one call.

use crate::format::block::inflate_stream;
use crate::partitions::number;

/// Longest unit in bytes: the largest block of a squashfs.
pub(super) const UNIT_MAX_BYTES: usize = 1 << 20;

/// A compression whose units can be told from their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Gzip,
    Xz,
    Zstd,
}

/// A unit at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Its length in bytes.
    pub(super) bytes: usize,
    /// The length of what it unpacks to.
    pub(super) unpacked: u64,
}

const ZSTD_MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";
const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";
const XZ_HEADER_BYTES: usize = 12;
/// Sizes in bytes of the checks of .xz, by their IDs.
const XZ_CHECK_BYTES: [usize; 16] = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];

impl Codec {
    /// The compression with this ID in a squashfs superblock; `None` for those without headers (lz4, lzo, lzma).
    pub(super) fn of_squashfs(id: u64) -> Option<Self> {
        match id {
            1 => Some(Codec::Gzip),
            4 => Some(Codec::Xz),
            6 => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// The unit at the start of `bytes`, which unpacks to at most the length of `out`; what it unpacks to may be written
    /// there.
    pub(super) fn unit(self, bytes: &[u8], out: &mut [u8]) -> Option<Unit> {
        let max = out.len() as u64;
        let bytes = &bytes[..bytes.len().min(UNIT_MAX_BYTES)];
        let unit = match self {
            Codec::Gzip => gzip(bytes, out),
            Codec::Xz => xz(bytes),
            Codec::Zstd => zstd(bytes),
        };
        unit.filter(|unit| unit.bytes <= bytes.len() && unit.unpacked <= max)
    }

    /// The first place from 1 on where a unit may begin, or the length of `bytes`.
    pub(super) fn next_place(self, bytes: &[u8]) -> usize {
        let rest = bytes.get(1..).unwrap_or_default();
        let found = match self {
            Codec::Gzip => rest.windows(2).position(is_zlib),
            Codec::Xz => memchr::memmem::find(rest, XZ_MAGIC),
            Codec::Zstd => memchr::memmem::find(rest, ZSTD_MAGIC),
        };
        found.map_or(bytes.len(), |at| at + 1)
    }
}

/// Whether these are the two bytes of a zlib header without a dictionary.
fn is_zlib(header: &[u8]) -> bool {
    let &[method, flags, ..] = header else { return false };
    method & 15 == 8 && method >> 4 <= 7 && flags & 32 == 0 && u16::from_be_bytes([method, flags]).is_multiple_of(31)
}

fn gzip(bytes: &[u8], out: &mut [u8]) -> Option<Unit> {
    if !is_zlib(bytes) {
        return None;
    }
    inflate_stream(bytes, out).ok().map(|done| Unit { bytes: done.read, unpacked: done.written as u64 })
}

fn zstd(bytes: &[u8]) -> Option<Unit> {
    if !bytes.starts_with(ZSTD_MAGIC) {
        return None;
    }
    let header = *bytes.get(4)?;
    let (is_single, has_checksum) = (header & 32 != 0, header & 4 != 0);
    let size_bytes = match (header >> 6, is_single) {
        (0, false) => return None,
        (0, true) => 1,
        (flag, _) => 1 << flag,
    };
    let dictionary_bytes = [0, 1, 2, 4][usize::from(header & 3)];
    let size_at = 5 + usize::from(!is_single) + dictionary_bytes;
    let size = number(bytes.get(size_at..size_at + size_bytes)?);
    let mut at = size_at + size_bytes;
    loop {
        let block = number(bytes.get(at..at + 3)?);
        let stored = match block >> 1 & 3 {
            1 => 1,
            3 => return None,
            _ => (block >> 3) as usize,
        };
        at += 3 + stored;
        if block & 1 == 1 {
            break;
        }
    }
    let unpacked = if size_bytes == 2 { size + 256 } else { size };
    Some(Unit { bytes: at + if has_checksum { 4 } else { 0 }, unpacked })
}

fn xz(bytes: &[u8]) -> Option<Unit> {
    if !bytes.starts_with(XZ_MAGIC) {
        return None;
    }
    let check = XZ_CHECK_BYTES[usize::from(bytes.get(7)? & 15)];
    let block = bytes.get(XZ_HEADER_BYTES..)?;
    let header_bytes = (usize::from(*block.first()?) + 1) * 4;
    let has_sizes = block.get(1)? & 0xc0 == 0xc0;
    if !has_sizes {
        return None;
    }
    let (packed, next) = variable(block, 2)?;
    let (unpacked, _) = variable(block, next)?;
    let unpadded = header_bytes + usize::try_from(packed).ok().filter(|&bytes| bytes <= UNIT_MAX_BYTES)? + check;
    let block_bytes = header_bytes + (packed as usize).next_multiple_of(4) + check;
    let index = bytes.get(XZ_HEADER_BYTES + block_bytes..)?;
    let (records, next) = variable(index, 1)?;
    let (stated, next) = variable(index, next)?;
    let (again, next) = variable(index, next)?;
    if index[0] != 0 || records != 1 || stated != unpadded as u64 || again != unpacked {
        return None;
    }
    let end = XZ_HEADER_BYTES + block_bytes + next.next_multiple_of(4) + 4 + XZ_HEADER_BYTES;
    (bytes.get(end - 2..end)? == b"YZ").then_some(Unit { bytes: end, unpacked })
}

/// A number of .xz in groups of 7 bits, the lowest first; and the offset behind it.
fn variable(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut number = 0;
    for (index, &byte) in bytes.get(at..)?.iter().take(9).enumerate() {
        number |= u64::from(byte & 127) << (7 * index);
        if byte & 128 == 0 {
            return Some((number, at + index + 1));
        }
    }
    None
}
