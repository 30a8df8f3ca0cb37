//! Reading the image at any offset, which `content 2` needs beside the bytes in order.

use super::rule::Rule;
use crate::disk::superblock::superblock;
use crate::error::Error;
use crate::partitions::ReadAt;
use crate::partitions::table;

/// An image that can be read at any offset.
pub trait Lookup {
    /// Size of the image in bytes.
    fn size(&self) -> u64;

    /// Fills `out` from `offset`; all of it lies in the image.
    ///
    /// # Errors
    /// A failed read; the user cancelled.
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error>;

    /// How many of the `len` bytes from `offset` are zero and need not be read for knowing that.
    fn hole(&self, _offset: u64, _len: u64) -> u64 {
        0
    }

    /// Called when this many bytes have been cut which are not needed in their order any more.
    fn passed(&self, _bytes: u64) {}
}

/// Whether an image with this start may have to be read at any offset for being cut by `rule`.
pub fn looks_elsewhere(rule: Rule, start: ReadAt) -> bool {
    if rule != Rule::Content {
        return false;
    }
    match superblock(0, start) {
        Some(found) => found.name.starts_with("ext"),
        None => {
            let table = table(start);
            !table.partitions.is_empty() || !table.extended.is_empty()
        }
    }
}

impl Lookup for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        out.copy_from_slice(&self[offset as usize..][..out.len()]);
        Ok(())
    }
}

/// A part of the image: a file system with what it lies in.
#[derive(Clone, Copy)]
pub(super) struct Stretch<'a> {
    image: &'a dyn Lookup,
    start: u64,
    bytes: u64,
}

impl<'a> Stretch<'a> {
    /// What lies between two offsets of the image, as far as the image reaches.
    pub(super) fn new(image: &'a dyn Lookup, start: u64, end: u64) -> Self {
        Self { image, start, bytes: end.min(image.size()).saturating_sub(start) }
    }

    /// Size in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills `out` from `at` of the stretch; returns whether it reaches that far.
    ///
    /// # Errors
    /// A failed read; the user cancelled.
    pub(super) fn read(&self, at: u64, out: &mut [u8]) -> Result<bool, Error> {
        let end = at.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Ok(false);
        }
        self.image.read(self.start + at, out).map(|()| true)
    }

    /// How many of the `len` bytes from `at`, all in the stretch, are zero and need not be read.
    pub(super) fn hole(&self, at: u64, len: u64) -> u64 {
        self.image.hole(self.start + at, len).min(len)
    }

    /// Says that this many bytes have been cut.
    pub(super) fn passed(&self, bytes: u64) {
        self.image.passed(bytes);
    }
}
