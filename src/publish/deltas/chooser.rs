//! Chooses the blocks that a new block has most in common with.

use std::cmp::Reverse;

/// A feature in more blocks than this says nothing: text that every package has, tables of zeros.
const COMMON: usize = 16;
/// Features that two blocks must have in common: with fewer, a delta saves nothing.
const SHARED_MIN: u32 = 8;
/// The table is entered by this many upper bits of a feature.
const ENTRY_BITS: u32 = 16;

/// The features of the old blocks, inverted.
#[derive(Debug, Default)]
pub struct Chooser {
    /// Features and the blocks that have them, sorted.
    pairs: Vec<(u32, u32)>,
    /// For each value of the upper bits, where its features begin; one more at the end.
    entries: Vec<u32>,
    blocks: usize,
}

/// Counters of one thread, reused for each block.
#[derive(Debug, Default)]
pub struct Scratch {
    counts: Vec<u32>,
    touched: Vec<u32>,
}

impl Chooser {
    /// Adds the features of the next block; blocks are numbered in this order.
    pub fn add(&mut self, features: &[u32]) {
        let block = self.blocks as u32;
        self.blocks += 1;
        self.pairs.extend(features.iter().map(|&feature| (feature, block)));
    }

    /// Sorts the table; blocks are chosen after this.
    pub fn finish(&mut self) {
        self.pairs.sort_unstable();
        self.entries = vec![0; (1 << ENTRY_BITS) + 1];
        for &(feature, _) in &self.pairs {
            self.entries[entry(feature) + 1] += 1;
        }
        for i in 1..self.entries.len() {
            self.entries[i] += self.entries[i - 1];
        }
    }

    /// The blocks that have a feature; none if it is too common.
    fn holders(&self, feature: u32) -> &[(u32, u32)] {
        let [first, end] = [entry(feature), entry(feature) + 1].map(|entry| self.entries[entry] as usize);
        let pairs = &self.pairs[first..end];
        let first = pairs.partition_point(|pair| pair.0 < feature);
        let holders = &pairs[first..];
        let holders = &holders[..holders.partition_point(|pair| pair.0 == feature)];
        if holders.len() > COMMON { &[] } else { holders }
    }

    /// The block that has most of these features, and the one that has most of those that the first lacks.
    pub fn choose(&self, features: &[u32], scratch: &mut Scratch) -> (Option<u32>, Option<u32>) {
        let mut holders = Vec::with_capacity(features.len());
        for &feature in features {
            let found = self.holders(feature);
            if !found.is_empty() {
                holders.push(found);
            }
        }
        let Some(first) = self.best(&holders, scratch) else { return (None, None) };
        holders.retain(|holders| holders.iter().all(|&(_, block)| block != first));
        (Some(first), self.best(&holders, scratch))
    }

    fn best(&self, holders: &[&[(u32, u32)]], scratch: &mut Scratch) -> Option<u32> {
        scratch.counts.resize(self.blocks, 0);
        for holders in holders {
            for &(_, block) in *holders {
                let count = &mut scratch.counts[block as usize];
                if *count == 0 {
                    scratch.touched.push(block);
                }
                *count += 1;
            }
        }
        let touched = scratch.touched.drain(..);
        let best = touched.map(|block| (std::mem::take(&mut scratch.counts[block as usize]), Reverse(block))).max();
        best.filter(|(count, _)| *count >= SHARED_MIN).map(|(_, Reverse(block))| block)
    }
}

fn entry(feature: u32) -> usize {
    (feature >> (32 - ENTRY_BITS)) as usize
}
