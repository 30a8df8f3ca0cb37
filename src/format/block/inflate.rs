//! Inflates with libdeflate and returns the number of input bytes consumed.
//!
//! A block's file must end with its stream, but the safe wrapper crate does not report where the stream ended. So this
//! module calls the library's `_ex` functions directly. Nothing else in hfl calls into C.

use std::cell::RefCell;
use std::ptr::NonNull;

use libdeflate_sys as sys;

/// Why a stream could not be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InflateError {
    /// Not a stream of this kind, or a damaged or truncated one.
    Broken,
    /// The stream continues after the output is full.
    Overflow,
}

/// Sizes of a stream that was inflated completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inflated {
    /// Input bytes up to the end of the stream.
    pub read: usize,
    /// Output bytes.
    pub written: usize,
}

#[derive(Debug, Clone, Copy)]
enum Wrapper {
    Zlib,
    Gzip,
}

struct Inflater(NonNull<sys::libdeflate_decompressor>);

impl Inflater {
    fn new() -> Self {
        // SAFETY: the call has no preconditions; it returns null only when memory has run out.
        let raw = unsafe { sys::libdeflate_alloc_decompressor() };
        Self(
            NonNull::new(raw)
                .unwrap_or_else(|| std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; 16384]>())),
        )
    }

    fn inflate(&mut self, wrapper: Wrapper, stream: &[u8], out: &mut [u8]) -> Result<Inflated, InflateError> {
        let (mut read, mut written) = (0, 0);
        let decompress = match wrapper {
            Wrapper::Zlib => sys::libdeflate_zlib_decompress_ex,
            Wrapper::Gzip => sys::libdeflate_gzip_decompress_ex,
        };
        // SAFETY: the decompressor is alive and borrowed by this call alone; both slices are valid for their lengths,
        // which the function never exceeds; the two counters outlive the call.
        let result = unsafe {
            decompress(
                self.0.as_ptr(),
                stream.as_ptr().cast(),
                stream.len(),
                out.as_mut_ptr().cast(),
                out.len(),
                &mut read,
                &mut written,
            )
        };
        match result {
            sys::libdeflate_result_LIBDEFLATE_SUCCESS => Ok(Inflated { read, written }),
            sys::libdeflate_result_LIBDEFLATE_INSUFFICIENT_SPACE => Err(InflateError::Overflow),
            _ => Err(InflateError::Broken),
        }
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, freed only here.
        unsafe { sys::libdeflate_free_decompressor(self.0.as_ptr()) }
    }
}

thread_local! {
    /// Reused: allocating a decompressor costs as much as inflating a small block.
    static INFLATER: RefCell<Inflater> = RefCell::new(Inflater::new());
}

/// Inflates the zlib stream at the start of `stream`; never writes beyond `out`.
///
/// # Errors
/// See [`InflateError`]; the contents of `out` are then undefined.
pub fn inflate(stream: &[u8], out: &mut [u8]) -> Result<Inflated, InflateError> {
    INFLATER.with_borrow_mut(|inflater| inflater.inflate(Wrapper::Zlib, stream, out))
}

/// Inflates the gzip stream at the start of `stream`; never writes beyond `out`.
///
/// # Errors
/// See [`InflateError`].
pub fn gunzip(stream: &[u8], out: &mut [u8]) -> Result<Inflated, InflateError> {
    INFLATER.with_borrow_mut(|inflater| inflater.inflate(Wrapper::Gzip, stream, out))
}
