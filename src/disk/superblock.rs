//! File systems recognized at an offset of an image by their magic numbers: the unit in which they place data, and
//! their stated size in bytes.
//!
//! A superblock is untrusted: impossible numbers count as none. Sources: the on-disk structures in the Linux kernel,
//! ECMA-119 for ISO 9660, and the LVM2 and LUKS header formats.

use crate::partitions::{ReadAt, number};

/// Fills `out` from offset `at` of `bytes`; returns whether they reach that far.
pub fn read_from(bytes: &[u8], at: u64, out: &mut [u8]) -> bool {
    let start = usize::try_from(at).unwrap_or(usize::MAX);
    let part = bytes.get(start..).and_then(|rest| rest.get(..out.len()));
    part.map(|part| out.copy_from_slice(part)).is_some()
}

/// The magic number of ext2, ext3 and ext4, at [`EXT_MAGIC_AT`] of the superblock.
pub const EXT_MAGIC: [u8; 2] = [0x53, 0xef];
/// Offset of the magic number in the superblock.
pub const EXT_MAGIC_AT: usize = 56;
/// Magic number of an EROFS superblock.
pub const EROFS_MAGIC: [u8; 4] = [0xe2, 0xe1, 0xf5, 0xe0];
/// Magic number of a squashfs.
pub const SQUASHFS_MAGIC: [u8; 4] = *b"hsqs";
/// Offset of the superblock of ext, EROFS, F2FS and NILFS2, in bytes.
pub const SUPERBLOCK_AT: usize = 1024;

/// Bytes from the start of a file system that include its superblock, whatever its type.
pub const HEAD_BYTES: usize = 17 * PAGE_BYTES;
/// Bytes from the start that include most superblocks.
const PAGE_BYTES: usize = 4096;
/// Offset of the first Btrfs superblock.
const BTRFS_AT: u64 = 65536;
/// Incompatible features of Btrfs: files are compressed with LZO or zstd. There is none for zlib.
const BTRFS_COMPRESSED: u64 = 0x8 | 0x10;
/// Incompatible features of EROFS: zeros at the front of compressed clusters; fragments (or deduplicated extents).
const EROFS_COMPRESSED: u64 = 1;
const EROFS_FRAGMENTS: u64 = 0x20;
/// Name of ISO 9660.
pub const ISO: &str = "ISO 9660";
/// Offset of the ISO 9660 volume descriptor.
const ISO_AT: u64 = 32768;

/// A file system, or a container of file systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Name for messages.
    pub name: &'static str,
    /// How data is placed.
    pub packing: Packing,
    /// Size in bytes, where it is simple to read.
    pub bytes: Option<u64>,
}

/// How a file system places the data of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As it is, at multiples of this many bytes.
    Aligned(u64),
    /// At any byte or sector, or compressed in a way that is not known further.
    Bytes,
    /// Compressed, at any byte.
    Compressed,
    /// Compressed by EROFS, in clusters of whole pages of 4096 bytes.
    Clusters,
    /// Compressed by squashfs, with the compression of this ID, in blocks of this many bytes.
    Squashfs {
        /// As the superblock names it.
        compression: u64,
        /// Size of an uncompressed block.
        block_bytes: u64,
    },
}

/// The superblock of what begins at byte `start`, if it is known and readable.
pub fn superblock(start: u64, read_at: ReadAt) -> Option<Superblock> {
    let mut head = [0; PAGE_BYTES];
    if !read_at(start, &mut head) {
        return None;
    }
    near(&head)
        .or_else(|| btrfs(start, read_at))
        .or_else(|| far(start, read_at))
        .or_else(|| packed(&head, start, read_at))
}

/// Those recognized in the first page.
fn near(head: &[u8; PAGE_BYTES]) -> Option<Superblock> {
    let superblock = &head[SUPERBLOCK_AT..];
    let found = |name, unit, bytes| Some(Superblock { name, packing: Packing::Aligned(unit), bytes });
    if superblock[EXT_MAGIC_AT..].starts_with(&EXT_MAGIC) {
        return found(ext_name(superblock), shifted(1024, number(&superblock[24..28]))?, ext_bytes(superblock));
    }
    if head.starts_with(b"XFSB") {
        let unit = big_endian(&head[4..8]);
        return found("XFS", unit, big_endian(&head[8..16]).checked_mul(unit));
    }
    if superblock.starts_with(&EROFS_MAGIC) {
        let block = shifted(1, superblock[12].into())?;
        let bytes = erofs_blocks(superblock).and_then(|blocks| blocks.checked_mul(block));
        return Some(Superblock { name: "EROFS", packing: erofs_packing(superblock), bytes });
    }
    if superblock[..8] == [2, 0, 0, 0, 0, 0, 0x34, 0x34] {
        return found("NILFS2", shifted(1024, number(&superblock[20..24]))?, Some(number(&superblock[32..40])));
    }
    // F2FS blocks are no smaller than pages. LVM places volumes, and LUKS sectors, at multiples of at least 4096 bytes.
    if superblock.starts_with(&0xf2f5_2010_u32.to_le_bytes()) {
        return found("F2FS", 4096, None);
    }
    if (0..4).any(|sector| head[sector * 512..].starts_with(b"LABELONE")) {
        return found("LVM", 4096, None);
    }
    if head.starts_with(b"LUKS\xba\xbe") { found("LUKS", 4096, None) } else { None }
}

/// Btrfs. The superblock states the used size of its own device, whatever other devices there are.
fn btrfs(start: u64, read_at: ReadAt) -> Option<Superblock> {
    let mut bytes = [0; 217];
    let there = start.checked_add(BTRFS_AT).is_some_and(|at| read_at(at, &mut bytes)) && &bytes[64..72] == b"_BHRfS_M";
    let is_compressed = number(&bytes[188..196]) & BTRFS_COMPRESSED != 0;
    let packing = if is_compressed { Packing::Bytes } else { Packing::Aligned(4096) };
    there.then(|| Superblock { name: "Btrfs", packing, bytes: Some(number(&bytes[209..217])) })
}

/// ReiserFS and JFS, whose superblocks are also further back.
fn far(start: u64, read_at: ReadAt) -> Option<Superblock> {
    let found = |name| Some(Superblock { name, packing: Packing::Aligned(4096), bytes: None });
    if has(start, 65588, b"ReIsEr", read_at) {
        return found("ReiserFS");
    }
    if has(start, 32768, b"JFS1", read_at) { found("JFS") } else { None }
}

/// File systems that place data at any byte, or at sectors.
fn packed(head: &[u8; PAGE_BYTES], start: u64, read_at: ReadAt) -> Option<Superblock> {
    if head.starts_with(&SQUASHFS_MAGIC) {
        return Some(squashfs(head));
    }
    let mut volume = [0; 130];
    let there = start.checked_add(ISO_AT).is_some_and(|at| read_at(at, &mut volume)) && &volume[1..6] == b"CD001";
    there.then(|| Superblock {
        name: ISO,
        packing: Packing::Bytes,
        bytes: Some(number(&volume[80..84]) * number(&volume[128..130])),
    })
}

/// Length of a squashfs superblock in bytes.
pub const SQUASHFS_SUPERBLOCK_BYTES: usize = 96;

/// The superblock of a squashfs that begins with these bytes, the first of which are its magic number.
pub fn squashfs(head: &[u8]) -> Superblock {
    let is_4 = number(&head[28..30]) == 4;
    let (compression, block_bytes) = (number(&head[20..22]), number(&head[12..16]));
    let packing = if is_4 { Packing::Squashfs { compression, block_bytes } } else { Packing::Bytes };
    Superblock { name: "squashfs", packing, bytes: is_4.then(|| squashfs_bytes(head)) }
}

/// Files are compressed if compressed clusters are filled up with zeros at their front, which all are since Linux 5.3. Tails
/// of files that are packed in fragments end no cluster.
fn erofs_packing(superblock: &[u8]) -> Packing {
    let incompatible = number(&superblock[80..84]);
    match (incompatible & EROFS_COMPRESSED != 0, incompatible & EROFS_FRAGMENTS != 0) {
        (false, _) => Packing::Bytes,
        (true, false) if superblock[12] == 12 => Packing::Clusters,
        (true, _) => Packing::Compressed,
    }
}

/// Size in bytes of an ext2, ext3 or ext4 with this superblock; `None` on overflow.
pub fn ext_bytes(superblock: &[u8]) -> Option<u64> {
    let is_wide = superblock[96] & 0x80 != 0;
    let high = if is_wide { number(&superblock[336..340]) << 32 } else { 0 };
    shifted(1024, number(&superblock[24..28]))?.checked_mul(high | number(&superblock[4..8]))
}

/// Size in bytes of a squashfs 4 with this start, without padding.
pub fn squashfs_bytes(head: &[u8]) -> u64 {
    number(&head[40..48])
}

/// Distinguishes the versions by the features that only later ones have: extents, 64 bits, flexible groups; a journal.
pub fn ext_name(superblock: &[u8]) -> &'static str {
    match (number(&superblock[96..100]) & 0x2c0, superblock[92] & 4) {
        (0, 0) => "ext2",
        (0, _) => "ext3",
        _ => "ext4",
    }
}

/// Blocks of an EROFS; `None` if the count has more than 32 bits, as newer kernels allow.
fn erofs_blocks(superblock: &[u8]) -> Option<u64> {
    let is_wide = superblock[80] & 0x80 != 0;
    (!is_wide).then(|| number(&superblock[36..40]))
}

fn has(start: u64, offset: u64, magic: &[u8], read_at: ReadAt) -> bool {
    let mut bytes = [0; 8];
    let bytes = &mut bytes[..magic.len()];
    start.checked_add(offset).is_some_and(|at| read_at(at, bytes)) && bytes == magic
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// `unit` shifted by the superblock's exponent. No file system has units above 64 KiB, so larger ones mean another
/// type.
fn shifted(unit: u64, by: u64) -> Option<u64> {
    (by <= 16).then(|| unit << by).filter(|&bytes| bytes <= 65536)
}
