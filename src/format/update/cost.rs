//! What an update saves.

use super::Update;
use crate::format::block::BlockRow;

impl Update {
    /// Size of all deltas in bytes.
    pub fn delta_bytes(&self) -> u64 {
        self.deltas().iter().map(|delta| u64::from(delta.bytes)).sum()
    }

    /// By how much those of these blocks that this update makes are larger than their deltas, in bytes.
    pub fn saved_bytes(&self, blocks: &[BlockRow]) -> u64 {
        let saved = blocks.iter().filter_map(|row| {
            let delta = self.delta(&row.id)?;
            Some(u64::from(row.zlib_bytes.saturating_sub(delta.bytes)))
        });
        saved.sum()
    }
}
