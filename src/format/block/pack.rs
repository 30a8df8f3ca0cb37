//! Encodes a block that did not come as a file, for a cache: fast rather than small.

use std::cell::RefCell;

use libdeflater::{CompressionLvl, Compressor};

thread_local! {
    static COMPRESSOR: RefCell<Compressor> = RefCell::new(Compressor::new(level()));
}

/// The fastest level that compresses: what the library calls the fastest one, 0, does not.
fn level() -> CompressionLvl {
    CompressionLvl::new(1).unwrap_or_default()
}

/// A zlib stream of `bytes`.
pub fn packed(bytes: &[u8]) -> Vec<u8> {
    COMPRESSOR.with_borrow_mut(|compressor| {
        let mut file = vec![0; compressor.zlib_compress_bound(bytes.len())];
        // The bound is enough for any input.
        let length = compressor.zlib_compress(bytes, &mut file).unwrap_or_default();
        file.truncate(length);
        file
    })
}

#[cfg(test)]
mod tests {
    use super::packed;

    #[test]
    fn what_repeats_is_compressed() {
        let bytes = b"what repeats ".repeat(5000);
        assert!(packed(&bytes).len() < bytes.len() / 20, "{}", packed(&bytes).len());
    }
}
