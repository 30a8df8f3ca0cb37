//! Encodes a block that did not come as a file, for a cache: fast rather than small.

use std::cell::RefCell;

use libdeflater::{CompressionLvl, Compressor};

thread_local! {
    static COMPRESSOR: RefCell<Compressor> = RefCell::new(Compressor::new(CompressionLvl::fastest()));
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
