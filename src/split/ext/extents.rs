//! Extents: where the contents of an inode lie.

use std::ops::Range;

use super::Ext;
use super::inode::Inode;
use crate::error::Error;
use crate::partitions::number;

/// Bytes of the header of a node, and of each of its entries.
const ENTRY_BYTES: usize = 12;
const MAGIC: u64 = 0xf30a;
/// Levels of nodes below the inode.
const DEPTH_MAX: u64 = 5;
/// Longest extent, in blocks; a larger number is that of an extent which reads as zeros, plus this.
const LENGTH_MAX: u64 = 32768;

impl Ext<'_> {
    /// The blocks of an inode in the order of its extents, without those that were never written.
    pub(super) fn blocks_of(&mut self, inode: &Inode) -> Result<Vec<Range<u64>>, Error> {
        let mut found = Vec::new();
        let depth = number(&inode.tree[6..8]);
        if depth <= DEPTH_MAX {
            self.node(&inode.tree, depth, &mut found)?;
        }
        Ok(found)
    }

    fn node(&mut self, node: &[u8], depth: u64, found: &mut Vec<Range<u64>>) -> Result<(), Error> {
        if number(&node[..2]) != MAGIC || number(&node[6..8]) != depth {
            return Ok(());
        }
        let entries = number(&node[2..4]) as usize;
        for entry in node[ENTRY_BYTES..].chunks_exact(ENTRY_BYTES).take(entries) {
            if !self.look() {
                return Ok(());
            }
            if depth == 0 {
                self.extent(entry, found);
                continue;
            }
            let child = number(&entry[4..8]) | number(&entry[8..10]) << 32;
            if let Some(child) = self.block(child)? {
                self.node(&child, depth - 1, found)?;
            }
        }
        Ok(())
    }

    fn extent(&mut self, entry: &[u8], found: &mut Vec<Range<u64>>) {
        let length = number(&entry[4..6]);
        if length > LENGTH_MAX || self.extents_left == 0 {
            return;
        }
        self.extents_left -= 1;
        let start = number(&entry[6..8]) << 32 | number(&entry[8..12]);
        found.push(start..start + length);
    }
}
