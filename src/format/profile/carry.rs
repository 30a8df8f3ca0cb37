//! Carries a profile over to another version than the recorded one.
//!
//! A block that both versions have is kept, wherever it moved. A block that is gone has most likely changed in place,
//! so the blocks now at its old position replace it.

use super::places::Places;
use super::{BLOCKS_MAX, FirstRead, Profile};
use crate::format::index::Index;

impl Profile {
    /// Carries this profile of `old` over to `new`: keeps the order, replaces blocks that are gone by those at their
    /// position, and lists each block once. With an `old` that is not the recorded version's index, the worst outcome
    /// is a short profile.
    pub fn carry(&self, old: &Index, new: &Index) -> Self {
        let (old, places) = (Places::new(old), Places::new(new));
        let mut listed = vec![false; new.blocks().len()];
        let mut reads: Vec<FirstRead> = Vec::with_capacity(self.reads.len());
        for read in &self.reads {
            for (block, offset) in successors(read, &old, &places) {
                if !std::mem::replace(&mut listed[block as usize], true) {
                    reads.push(FirstRead { id: places.id(block), ms: read.ms, offset });
                }
            }
        }
        reads.truncate(BLOCKS_MAX as usize);
        let header = new.header();
        Self { image: header.image.clone(), version: header.version, reads }
    }

    /// The blocks of `index` in this profile, as positions in [`Index::blocks`], in profile order, each once. A block
    /// that the index does not have is replaced by the one at the offset where it was read.
    pub fn blocks_of(&self, index: &Index) -> Vec<u32> {
        let places = Places::new(index);
        let mut listed = vec![false; index.blocks().len()];
        let found = self.reads.iter().filter_map(|read| {
            let there = || places.blocks_in(read.offset..read.offset + 1).next().map(|(block, _)| block);
            places.find(&read.id).or_else(there)
        });
        found.filter(|&block| !std::mem::replace(&mut listed[block as usize], true)).collect()
    }
}

/// The blocks that replace a block in the new version, each with its offset in the image.
fn successors(read: &FirstRead, old: &Places<'_>, new: &Places<'_>) -> Vec<(u32, u64)> {
    if let Some(block) = new.find(&read.id) {
        return vec![(block, new.place_of(block, read.offset))];
    }
    let piece = old.find(&read.id).and_then(|block| old.piece(read.offset, block));
    new.blocks_in(piece.unwrap_or(read.offset..read.offset + 1)).collect()
}
