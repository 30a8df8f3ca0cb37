//! Which blocks of the ext4 file systems in an image are free, as their bitmaps say.
//!
//! Only file systems that are clean and that this code understands whole are looked into; a damaged bitmap is an error,
//! since what it calls free may be in use. One bitmap is in memory at a time. Source: the ext4 documentation of the
//! Linux kernel, "High Level Design" and "Global Structures".

use std::ops::Range;

use super::ext_superblocks::{EXT_SUPERBLOCK_BYTES, ext_superblocks};
use super::superblock::ext_bytes;
use crate::error::Error;
use crate::partitions::{ReadAt, number};

/// The ext4 file systems of an image.
pub struct FreeSpace {
    systems: Vec<Ext4>,
    loaded: Option<Loaded>,
}

/// A file system.
struct Ext4 {
    /// Where it lies in the image, in bytes.
    range: Range<u64>,
    block_bytes: u64,
    /// Number of the first block that a bitmap covers.
    first_block: u64,
    blocks: u64,
    blocks_per_group: u64,
    /// Offset of the group descriptors in the image, and the size of one.
    descriptors: u64,
    descriptor_bytes: u64,
    /// Where the checksums of the bitmaps begin; `None` without checksums.
    checksum_seed: Option<u32>,
}

/// The bitmap of one group.
struct Loaded {
    /// The bytes of the image that it covers.
    range: Range<u64>,
    block_bytes: u64,
    /// A set bit is a block in use; `None` if all are taken for that.
    bits: Option<Vec<u8>>,
}

/// A run of bytes that are all free, or all not known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Length in bytes.
    pub bytes: u64,
    /// Whether the file system calls them free.
    pub is_free: bool,
}

const STATE_CLEAN: u64 = 1;
const STATE_ERRORS: u64 = 2;
/// Incompatible features with which free blocks are not where this code looks, or are in use: a journal to be replayed,
/// a journal device, descriptors in each meta group.
const INCOMPATIBLE: u64 = 0x4 | 0x8 | 0x10;
const WIDE: u64 = 0x80;
const SEED_STORED: u64 = 0x2000;
/// Read-only features: bits stand for clusters of blocks; a snapshot.
const RO_INCOMPATIBLE: u64 = 0x200 | 0x80;
const RO_CHECKSUMS: u64 = 0x400;
/// The bitmap of a group was not written.
const GROUP_UNINIT: u64 = 2;
/// From this descriptor size on the upper half of the bitmap's checksum is there.
const WIDE_CHECKSUM_BYTES: u64 = 58;

impl FreeSpace {
    /// The ext4 file systems of an image that are clean; `None` if there are none.
    pub fn of(read_at: ReadAt) -> Option<Self> {
        let found = ext_superblocks(read_at);
        let mut systems: Vec<Ext4> = found.iter().filter_map(|(start, bytes)| Ext4::of(*start, bytes)).collect();
        systems.sort_by_key(|system| system.range.start);
        // A table that overlaps itself is not believed.
        let is_disjoint = systems.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start);
        (is_disjoint && !systems.is_empty()).then_some(Self { systems, loaded: None })
    }

    /// The run at the start of the `bytes` bytes from `at`; at least 1 byte of 1.
    ///
    /// # Errors
    /// A bitmap that is damaged or cannot be read.
    pub fn run(&mut self, at: u64, bytes: u64, read_at: ReadAt) -> Result<Run, Error> {
        if !self.loaded.as_ref().is_some_and(|loaded| loaded.range.contains(&at)) {
            self.loaded = Some(self.load(at, read_at)?);
        }
        let loaded = self.loaded.as_ref().expect("it was just loaded");
        Ok(loaded.run(at, bytes))
    }

    fn load(&self, at: u64, read_at: ReadAt) -> Result<Loaded, Error> {
        match self.systems.iter().find(|system| system.range.end > at) {
            Some(system) if system.range.start <= at => system.load(at, read_at),
            next => {
                let end = next.map_or(u64::MAX, |system| system.range.start);
                Ok(Loaded { range: at..end, block_bytes: 1, bits: None })
            }
        }
    }
}

impl Loaded {
    fn run(&self, at: u64, bytes: u64) -> Run {
        let end = self.range.end.min(at.saturating_add(bytes));
        let Some(bits) = &self.bits else { return Run { bytes: end - at, is_free: false } };
        let block = |at: u64| (at - self.range.start) / self.block_bytes;
        let first = block(at);
        let is_first_free = is_free(bits, first);
        let other = (first + 1..=block(end - 1)).find(|&next| is_free(bits, next) != is_first_free);
        let end = other.map_or(end, |block| self.range.start + block * self.block_bytes);
        Run { bytes: end - at, is_free: is_first_free }
    }
}

impl Ext4 {
    /// The file system at `start` with this superblock, if it is clean and understood.
    fn of(start: u64, superblock: &[u8; EXT_SUPERBLOCK_BYTES]) -> Option<Self> {
        let field = |range: Range<usize>| number(&superblock[range]);
        let (incompatible, read_only) = (field(96..100), field(100..104));
        let is_clean = field(58..60) & (STATE_CLEAN | STATE_ERRORS) == STATE_CLEAN;
        let is_known = incompatible & INCOMPATIBLE == 0 && read_only & RO_INCOMPATIBLE == 0;
        let bytes = ext_bytes(superblock).filter(|_| is_clean && is_known)?;
        let is_wide = incompatible & WIDE != 0;
        let (first_block, block_bytes) = (field(20..24), 1024 << field(24..28));
        let blocks = bytes / block_bytes;
        let (blocks_per_group, descriptor_bytes) = (field(32..36), if is_wide { field(254..256) } else { 32 });
        let seed = || match incompatible & SEED_STORED {
            0 => raw_crc32c(u32::MAX, &superblock[104..120]),
            _ => field(624..628) as u32,
        };
        let range = start..start.checked_add(bytes)?;
        let fits = first_block < blocks
            && (8..=block_bytes * 8).contains(&blocks_per_group)
            && blocks_per_group.is_multiple_of(8)
            && (32..=1024).contains(&descriptor_bytes);
        fits.then(|| Self {
            descriptors: start + (first_block + 1) * block_bytes,
            range,
            block_bytes,
            first_block,
            blocks,
            blocks_per_group,
            descriptor_bytes,
            checksum_seed: (read_only & RO_CHECKSUMS != 0).then(seed),
        })
    }

    /// The bitmap that covers the byte `at` of the image.
    fn load(&self, at: u64, read_at: ReadAt) -> Result<Loaded, Error> {
        let start_of = |block: u64| self.range.start + block * self.block_bytes;
        let used = |range: Range<u64>| Ok(Loaded { range, block_bytes: self.block_bytes, bits: None });
        let block = (at - self.range.start) / self.block_bytes;
        let Some(covered) = block.checked_sub(self.first_block) else {
            return used(self.range.start..start_of(self.first_block));
        };
        let group = covered / self.blocks_per_group;
        let first = self.first_block + group * self.blocks_per_group;
        let range = start_of(first)..start_of((first + self.blocks_per_group).min(self.blocks));

        let failed = |what: &str| {
            let start = self.range.start;
            Error::local(format!("the ext4 file system at byte {start}: the block bitmap of group {group} {what}"))
                .hint("run e2fsck -f on it, or publish it without --zero-free")
        };
        let mut descriptor = vec![0; self.descriptor_bytes as usize];
        if !read_at(self.descriptors + group * self.descriptor_bytes, &mut descriptor) {
            return Err(failed("cannot be read: its descriptor is missing"));
        }
        let field = |at: usize, bytes: usize| descriptor.get(at..at + bytes).map_or(0, number);
        if field(18, 2) & GROUP_UNINIT != 0 {
            return used(range);
        }
        let bitmap = field(0, 4) | field(32, 4) << 32;
        let mut bits = vec![0; (self.blocks_per_group / 8) as usize];
        if bitmap >= self.blocks || !read_at(start_of(bitmap), &mut bits) {
            return Err(failed("cannot be read"));
        }
        let covered = (first + self.blocks_per_group).min(self.blocks) - first;
        let free = (0..covered).filter(|block| is_free(&bits, *block)).count() as u64;
        if free != field(12, 2) | field(44, 2) << 16 {
            return Err(failed("is damaged: it has another number of free blocks than its descriptor"));
        }
        if let Some(seed) = self.checksum_seed {
            let is_whole = self.descriptor_bytes >= WIDE_CHECKSUM_BYTES;
            let stated = field(24, 2) | field(56, 2) << 16;
            let found = u64::from(raw_crc32c(seed, &bits)) & if is_whole { 0xffff_ffff } else { 0xffff };
            if stated != found {
                return Err(failed("is damaged: its checksum is wrong"));
            }
        }
        Ok(Loaded { range, block_bytes: self.block_bytes, bits: Some(bits) })
    }
}

/// Whether a bitmap calls the block free.
fn is_free(bits: &[u8], block: u64) -> bool {
    bits[(block / 8) as usize] >> (block % 8) & 1 == 0
}

/// CRC-32C without the inversions at start and end, as ext4 chains it.
fn raw_crc32c(seed: u32, bytes: &[u8]) -> u32 {
    const CASTAGNOLI: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    let mut digest = CASTAGNOLI.digest_with_initial(seed.reverse_bits());
    digest.update(bytes);
    !digest.finalize()
}
