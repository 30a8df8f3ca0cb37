//! `bytes 1`: the decisions. A rolling hash over the last 64 bytes chooses the borders of blocks.
//!
//! After the bytes b1 .. bn the hash is the sum of G[bn], 2 G[bn-1], 4 G[bn-2] and so on, modulo 2^64, so that bytes
//! further back than 64 have left it; G[b] is XXH3-64 of the one byte b. Before `MIN` bytes nothing is asked, so no hash
//! reaches back across a border: what counts are the 64 bytes before a position and how far back the last border lies.

use xxhash_rust::xxh3::xxh3_64;

/// Bytes that a hash remembers.
const WINDOW: usize = 64;
/// No hash ends a block shorter than this, in bytes.
const MIN: usize = 80 << 10;
/// From so many bytes on it ends twice as easily, so that sizes crowd around here.
const NORMAL: usize = 160 << 10;
/// The largest block, in bytes.
const MAX: usize = 1 << 20;
/// A hash below this ends a block shorter than `NORMAL`: 1 position in 2^17.
const STRICT: u64 = 1 << (64 - 17);
/// A hash below this ends a block from `NORMAL` on: 1 position in 2^16.
const LOOSE: u64 = 1 << (64 - 16);

/// The hash of the bytes so far, and the table that it is made with.
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
    /// Where in `bytes` a block ends that has `len` bytes (fewer than `MAX`) before them: after so many of them.
    pub(super) fn border(&mut self, len: usize, bytes: &[u8]) -> Option<usize> {
        let end = bytes.len().min(MAX - len);
        let [first, min, normal] = [MIN - WINDOW, MIN - 1, NORMAL - 1].map(|at| at.saturating_sub(len).min(end));
        self.roll(&bytes[first..min], 0);
        self.roll(&bytes[min..normal], STRICT)
            .map(|found| min + found)
            .or_else(|| self.roll(&bytes[normal..end], LOOSE).map(|found| normal + found))
            .or((len + end == MAX).then_some(end))
    }

    /// Takes the bytes into the hash until it is below `limit`, and says how many that took.
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
