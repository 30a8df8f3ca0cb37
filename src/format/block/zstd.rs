//! Decodes one zstd frame (RFC 8878) into a buffer of the right length, with or without a prefix.
//!
//! The one-shot decoder of the reference library writes to the output directly, so no window is allocated, whatever the
//! frame asks for.

use std::cell::RefCell;

use zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd_safe::{DCtx, find_frame_compressed_size, is_error_kind};

use super::inflate::{InflateError, Inflated};

/// The first bytes of a frame. No zlib stream begins with them.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Whether this begins like a zstd frame.
pub fn is_frame(file: &[u8]) -> bool {
    file.starts_with(&MAGIC)
}

thread_local! {
    /// Reused: one decoder takes 100 KiB.
    static DECODER: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// Decodes the frame at the start of `file`; never writes beyond `out`.
///
/// # Errors
/// See [`InflateError`]; the contents of `out` are then undefined.
pub fn decode(file: &[u8], out: &mut [u8]) -> Result<Inflated, InflateError> {
    DECODER.with_borrow_mut(|decoder| decode_with(decoder, file, out))
}

/// Decodes the frame at the start of `file`, whose encoder saw `prefix` before the contents.
///
/// # Errors
/// See [`InflateError`]; the contents of `out` are then undefined.
pub fn decode_after(prefix: &[u8], file: &[u8], out: &mut [u8]) -> Result<Inflated, InflateError> {
    let mut decoder = DCtx::create();
    decoder.ref_prefix(prefix).map_err(|_| InflateError::Broken)?;
    decode_with(&mut decoder, file, out)
}

fn decode_with(decoder: &mut DCtx<'_>, file: &[u8], out: &mut [u8]) -> Result<Inflated, InflateError> {
    // A file may begin with a skippable frame, which is not a block.
    if !is_frame(file) {
        return Err(InflateError::Broken);
    }
    let read = find_frame_compressed_size(file).map_err(|_| InflateError::Broken)?;
    match decoder.decompress(out, &file[..read]) {
        Ok(written) => Ok(Inflated { read, written }),
        Err(code) if is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall) => Err(InflateError::Overflow),
        Err(_) => Err(InflateError::Broken),
    }
}
