//! `bytes 1`: the decisions. A gear hash rolling over the last 64 bytes chooses the block boundaries.
//!
//! After bytes b1 .. bn the hash is `G[bn] + 2 G[bn-1] + 4 G[bn-2] + ...`, modulo 2^64, so it covers exactly the last 64
//! bytes. `G[b]` is XXH3-64 of the single byte b. No boundary is tested before `MIN` bytes, so no hash spans a boundary:
//! a decision depends only on the 64 bytes before a position and the distance to the last boundary.

use xxhash_rust::xxh3::xxh3_64;

/// Window of the hash, in bytes.
const WINDOW: usize = 64;
/// Minimum block size in bytes, except at a hole or the image's end.
const MIN: usize = 80 << 10;
/// From this size on, in bytes, a boundary is twice as likely, so sizes cluster here.
const NORMAL: usize = 160 << 10;
/// The largest block, in bytes.
const MAX: usize = 1 << 20;
/// Threshold below `NORMAL`: a smaller hash ends the block, at 1 position in 2^17.
const STRICT: u64 = 1 << (64 - 17);
/// Threshold from `NORMAL` on: a smaller hash ends the block, at 1 position in 2^16.
const LOOSE: u64 = 1 << (64 - 16);

/// The rolling hash and its gear table.
pub(super) struct Gear {
    table: [u64; 256],
    hash: u64,
}

impl Default for Gear {
    fn default() -> Gear {
        Gear { table: std::array::from_fn(|byte| xxh3_64(&[byte as u8])), hash: 0 }
    }
}

impl Gear {
    /// The offset in `bytes` at which the current block ends; the block already has `len` bytes, fewer than `MAX`.
    pub(super) fn border(&mut self, len: usize, bytes: &[u8]) -> Option<usize> {
        let end = bytes.len().min(MAX - len);
        let [first, min, normal] = [MIN - WINDOW, MIN - 1, NORMAL - 1].map(|at| at.saturating_sub(len).min(end));
        self.roll(&bytes[first..min], 0);
        self.roll(&bytes[min..normal], STRICT)
            .map(|found| min + found)
            .or_else(|| self.roll(&bytes[normal..end], LOOSE).map(|found| normal + found))
            .or((len + end == MAX).then_some(end))
    }

    /// Rolls the hash over `bytes` until it is below `limit`; returns the number of bytes consumed.
    fn roll(&mut self, bytes: &[u8], limit: u64) -> Option<usize> {
        for (index, &byte) in bytes.iter().enumerate() {
            self.hash = (self.hash << 1).wrapping_add(self.table[usize::from(byte)]);
            if self.hash < limit {
                return Some(index + 1);
            }
        }
        None
    }
}
