//! Features of a block: what two blocks with similar contents have in common, wherever it stands in them.
//!
//! Each window of eight bytes, at every offset, is mixed into a number. The numbers whose upper bits are zero are the
//! block's features: a sample chosen by the contents alone, so equal runs of bytes give equal features.

/// Bytes of a window: as many as a number has.
const WINDOW: usize = 8;
/// Sampling of blocks that together have at most [`EXACT_BYTES`]: one window in 2^7.
const BITS: u32 = 7;
/// Bytes up to which features are sampled at that rate. Beyond, the rate falls, so that the number of features stays
/// the same: 8 million, 64 MiB of a table.
const EXACT_BYTES: u64 = 1 << 30;
/// An odd constant with bits all over: the golden ratio of 2^64.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// How densely features are sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    bits: u32,
}

impl Sampling {
    /// The sampling for blocks of so many bytes together.
    pub fn for_bytes(bytes: u64) -> Self {
        let times = bytes.div_ceil(EXACT_BYTES).max(1);
        Self { bits: BITS + times.next_power_of_two().trailing_zeros() }
    }

    /// The features of `bytes`, sorted, each once.
    pub fn features(self, bytes: &[u8]) -> Vec<u32> {
        let mut features = Vec::with_capacity((bytes.len() >> self.bits) * 3 / 2);
        let shift = 64 - self.bits;
        let (first, rest) = bytes.split_at(bytes.len().min(WINDOW - 1));
        let mut window = first.iter().fold(0, |window: u64, &byte| window << 8 | u64::from(byte));
        for &byte in rest {
            window = window << 8 | u64::from(byte);
            let mixed = window.wrapping_mul(MIX);
            if mixed >> shift == 0 {
                // The lower bits of a product depend on few bits of the window, the upper ones on all.
                features.push((mixed >> (shift - 32)) as u32);
            }
        }
        features.sort_unstable();
        features.dedup();
        features
    }
}
