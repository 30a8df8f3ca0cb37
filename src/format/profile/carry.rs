//! A profile for another version than the one that was recorded.
//!
//! A block that the other version has too is the same block wherever it lies. One that it does not have has most likely
//! changed where it was, so the blocks that lie there now stand in for it.

use super::places::Places;
use super::{BLOCKS_MAX, FirstRead, Profile};
use crate::format::index::Index;

impl Profile {
    /// The profile of `new`, made from this one of `old`: the order is kept, blocks that are gone are replaced by those
    /// in their place, and each stands once. An index that is not the recorded version's makes it no worse than short.
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

    /// The blocks of `index` that this profile names, by their places in [`Index::blocks`], in order, each once; a block
    /// that the index does not have is replaced by the one that lies where it was read.
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

/// What stands for a block in the new version, and where it lies there.
fn successors(read: &FirstRead, old: &Places<'_>, new: &Places<'_>) -> Vec<(u32, u64)> {
    if let Some(block) = new.find(&read.id) {
        return vec![(block, new.place_of(block, read.offset))];
    }
    let piece = old.find(&read.id).and_then(|block| old.piece(read.offset, block));
    new.blocks_in(piece.unwrap_or(read.offset..read.offset + 1)).collect()
}
