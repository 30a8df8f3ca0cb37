//! What an update saves.

use super::Update;
use crate::format::index::Index;

impl Update {
    /// Size of all deltas in bytes.
    pub fn delta_bytes(&self) -> u64 {
        self.deltas().iter().map(|delta| u64::from(delta.bytes)).sum()
    }

    /// By how much the blocks of `index`, which this update makes, are larger than their deltas, in bytes.
    pub fn saved_bytes(&self, index: &Index) -> u64 {
        let saved = index.blocks().iter().filter_map(|row| {
            let delta = self.delta(&row.id)?;
            Some(u64::from(row.zlib_bytes.saturating_sub(delta.bytes)))
        });
        saved.sum()
    }
}
