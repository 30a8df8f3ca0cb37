//! The tables of an ext4, as far as `content 2` reads them: which blocks the files have.
//!
//! A part of the rule, so every choice here is specified in `src/doc/split.md`, also for damaged tables: what cannot be
//! read, or is impossible, is skipped. Work and memory are bounded. Source of the structures: the kernel's documentation
//! of ext4 ("Data Structures and Algorithms").

mod directory;
mod extents;
mod inode;
mod walk;

use super::lookup::Stretch;
use crate::disk::ext_superblocks::EXT_SUPERBLOCK_BYTES;
use crate::disk::superblock::{EXT_MAGIC, EXT_MAGIC_AT, SUPERBLOCK_AT};
use crate::error::Error;
use crate::partitions::number;

pub(super) use walk::files;

/// Incompatible features that do not change what is read here: file types in directories, a journal to be replayed,
/// extents, 64 bits, multiple mount protection, flexible groups, large extended attributes, a seed of checksums, large
/// directories, inline data, encryption, case-insensitive names.
const KNOWN: u64 = 0x2 | 0x4 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x1_0000 | 0x2_0000;
const EXTENTS: u64 = 0x40;
const WIDE: u64 = 0x80;
/// Smallest inode, in bytes.
const INODE_MIN_BYTES: u64 = 128;
/// Bytes of a group descriptor, without and with the feature of 64 bits.
const DESCRIPTOR_BYTES: u64 = 32;
const DESCRIPTOR_WIDE_BYTES: u64 = 64;
/// Inodes, entries of nodes, pages and entries of directories that are looked at in one file system.
const LOOKS_MAX: u32 = 1 << 21;
/// Extents of files that count in one file system.
const EXTENTS_MAX: u32 = 1 << 20;

/// An opened file system.
pub(super) struct Ext<'a> {
    stretch: Stretch<'a>,
    block_bytes: u64,
    /// Where the group descriptors begin.
    descriptors_at: u64,
    descriptor_bytes: u64,
    inodes: u64,
    inodes_per_group: u64,
    inode_bytes: u64,
    looks_left: u32,
    extents_left: u32,
    /// The group whose descriptor was read last, and the first block of its inode table.
    group: Option<(u64, u64)>,
    /// The page of a table that was read last, and where it is: most inodes that are read follow each other.
    recent: (u64, Vec<u8>),
}

impl<'a> Ext<'a> {
    /// The file system whose first bytes are `head`; `None` if it has blocks of another size than `block_bytes`, or its
    /// tables are of another kind.
    pub(super) fn open(stretch: Stretch<'a>, head: &[u8], block_bytes: u64) -> Option<Self> {
        let superblock = head.get(SUPERBLOCK_AT..SUPERBLOCK_AT + EXT_SUPERBLOCK_BYTES)?;
        let word = |at: usize| number(&superblock[at..at + 4]);
        let half = |at: usize| number(&superblock[at..at + 2]);
        let (features, inode_bytes) = (word(96), half(88));
        let is_wide = features & WIDE != 0;
        let descriptor_bytes = if is_wide { half(254) } else { DESCRIPTOR_BYTES };
        let is_one = superblock[EXT_MAGIC_AT..].starts_with(&EXT_MAGIC)
            && word(24) <= 16
            && 1024 << word(24) == block_bytes
            && word(76) >= 1
            && features & EXTENTS != 0
            && features & !KNOWN == 0
            && (INODE_MIN_BYTES..=block_bytes).contains(&inode_bytes)
            && (!is_wide || (DESCRIPTOR_WIDE_BYTES..=block_bytes).contains(&descriptor_bytes))
            && word(40) > 0;
        is_one.then(|| Self {
            stretch,
            block_bytes,
            descriptors_at: (SUPERBLOCK_AT as u64 / block_bytes + 1) * block_bytes,
            descriptor_bytes,
            inodes: word(0),
            inodes_per_group: word(40),
            inode_bytes,
            looks_left: LOOKS_MAX,
            extents_left: EXTENTS_MAX,
            group: None,
            recent: (0, Vec::new()),
        })
    }

    /// Counts what is looked at; returns whether it may be.
    fn look(&mut self) -> bool {
        let left = self.looks_left.checked_sub(1);
        self.looks_left = left.unwrap_or_default();
        left.is_some()
    }

    /// Reads a part of a table, mostly without looking into the image again.
    fn table(&mut self, at: u64, out: &mut [u8]) -> Result<bool, Error> {
        let page = at / self.block_bytes * self.block_bytes;
        let within = at - page + out.len() as u64 <= self.block_bytes;
        if !within {
            return self.stretch.read(at, out);
        }
        if self.recent.1.is_empty() || self.recent.0 != page {
            self.recent.1.resize(self.block_bytes as usize, 0);
            self.recent.0 = page;
            if !self.stretch.read(page, &mut self.recent.1)? {
                // The stretch ends within the page.
                self.recent.1.clear();
                return self.stretch.read(at, out);
            }
        }
        out.copy_from_slice(&self.recent.1[(at - page) as usize..][..out.len()]);
        Ok(true)
    }

    fn block(&mut self, block: u64) -> Result<Option<Vec<u8>>, Error> {
        let mut bytes = vec![0; self.block_bytes as usize];
        let at = block.checked_mul(self.block_bytes);
        Ok(at.map_or(Ok(false), |at| self.stretch.read(at, &mut bytes))?.then_some(bytes))
    }
}
