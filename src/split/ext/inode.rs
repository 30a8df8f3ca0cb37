//! Inodes.

use super::{DESCRIPTOR_WIDE_BYTES, Ext, INODE_MIN_BYTES};
use crate::error::Error;
use crate::partitions::number;

/// The inode of the root directory.
pub(super) const ROOT: u32 = 2;
/// Flag of an inode: its blocks are described by extents.
const HAS_EXTENTS: u64 = 0x8_0000;

/// What is read of an inode.
pub(super) struct Inode {
    pub(super) is_directory: bool,
    /// The root of the tree of extents.
    pub(super) tree: [u8; 60],
}

impl Ext<'_> {
    /// A regular file or directory with extents; `None` for all else, and what cannot be read.
    pub(super) fn inode(&mut self, inode: u32) -> Result<Option<Inode>, Error> {
        if !self.look() {
            return Ok(None);
        }
        let Some(index) = u64::from(inode).checked_sub(1).filter(|&index| index < self.inodes) else { return Ok(None) };
        let Some(table) = self.inode_table(index / self.inodes_per_group)? else { return Ok(None) };
        let at = table
            .checked_mul(self.block_bytes)
            .and_then(|at| at.checked_add(index % self.inodes_per_group * self.inode_bytes));
        let mut bytes = [0; INODE_MIN_BYTES as usize];
        if !at.map_or(Ok(false), |at| self.table(at, &mut bytes))? || number(&bytes[32..36]) & HAS_EXTENTS == 0 {
            return Ok(None);
        }
        let is_directory = match bytes[1] >> 4 {
            4 => true,
            8 => false,
            _ => return Ok(None),
        };
        let mut tree = [0; 60];
        tree.copy_from_slice(&bytes[40..100]);
        Ok(Some(Inode { is_directory, tree }))
    }

    /// The first block of the inode table of a group.
    fn inode_table(&mut self, group: u64) -> Result<Option<u64>, Error> {
        if let Some((_, table)) = self.group.filter(|(known, _)| *known == group) {
            return Ok(Some(table));
        }
        let mut descriptor = [0; DESCRIPTOR_WIDE_BYTES as usize];
        let is_wide = self.descriptor_bytes >= DESCRIPTOR_WIDE_BYTES;
        let part = if is_wide { &mut descriptor[..] } else { &mut descriptor[..self.descriptor_bytes as usize] };
        let is_there = self.stretch.read(self.descriptors_at + group * self.descriptor_bytes, part)?;
        let block = number(&descriptor[8..12]) | number(&descriptor[40..44]) << 32;
        self.group = is_there.then_some((group, block));
        Ok(is_there.then_some(block))
    }
}
