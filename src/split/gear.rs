//! `bytes 1`: the decisions. A gear hash rolling over the last 64 bytes chooses the block boundaries.
//!
//! After bytes b1 .. bn the hash is `G[bn] + 2 G[bn-1] + 4 G[bn-2] + ...`, modulo 2^64, so it covers exactly the last 64
//! bytes. `G[b]` is XXH3-64 of the single byte b. No boundary is tested before the minimum, so no hash spans a boundary:
//! a decision depends only on the 64 bytes before a position and the distance to the last boundary.

use xxhash_rust::xxh3::xxh3_64;

/// Window of the hash, in bytes.
const WINDOW: usize = 64;

/// How large blocks become.
pub(super) struct Sizes {
    /// Minimum block size in bytes, except at a hole or the image's end.
    min: usize,
    /// From this size on, in bytes, a boundary is twice as likely, so sizes cluster here.
    normal: usize,
    /// The largest block, in bytes.
    max: usize,
    /// Below `normal`, a hash that is smaller ends the block; from `normal` on, one below twice this.
    limit: u64,
}

/// `bytes 1`: below the normal size a block ends at 1 position in 2^17.
pub(super) const COARSE: Sizes = Sizes { min: 80 << 10, normal: 160 << 10, max: 1 << 20, limit: 1 << (64 - 17) };
/// Half of that, for what is compressed already: there a change spoils the whole block.
pub(super) const FINE: Sizes = Sizes { min: 40 << 10, normal: 80 << 10, max: 512 << 10, limit: 1 << (64 - 16) };

/// The rolling hash and its gear table.
pub(super) struct Gear {
    table: [u64; 256],
    hash: u64,
    sizes: &'static Sizes,
}

impl Gear {
    pub(super) fn new(sizes: &'static Sizes) -> Self {
        Self { table: std::array::from_fn(|byte| xxh3_64(&[byte as u8])), hash: 0, sizes }
    }

    /// Forgets the bytes before.
    pub(super) fn restart(&mut self) {
        self.hash = 0;
    }

    /// The offset in `bytes` at which the current block ends; the block already has `len` bytes, fewer than the maximum.
    pub(super) fn border(&mut self, len: usize, bytes: &[u8]) -> Option<usize> {
        let Sizes { min, normal, max, limit } = *self.sizes;
        let end = bytes.len().min(max - len);
        let [first, min, normal] = [min - WINDOW, min - 1, normal - 1].map(|at| at.saturating_sub(len).min(end));
        self.roll(&bytes[first..min], 0);
        self.roll(&bytes[min..normal], limit)
            .map(|found| min + found)
            .or_else(|| self.roll(&bytes[normal..end], 2 * limit).map(|found| normal + found))
            .or((len + end == max).then_some(end))
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
