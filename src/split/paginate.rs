//! Turns calls with any number of bytes into the image's pages.
//!
//! Invariant: the emitted pages depend only on the bytes, and so does everything built on them. The whole pages of a
//! hole are emitted as a count.

/// The next piece of the image.
pub(super) enum Piece<'a, const SIZE: usize> {
    /// The page at this offset. Only its first `len` bytes exist (less than a page only at the end of the image); the
    /// others are zero.
    Page { offset: u64, page: &'a [u8; SIZE], len: usize },
    /// This many zero pages of a hole, not read.
    Zeros(u64),
}

/// The bytes since the last whole page, and the offset of the first of them in the image.
pub(super) struct Paginator<const SIZE: usize> {
    offset: u64,
    partial: [u8; SIZE],
    filled: usize,
}

impl<const SIZE: usize> Default for Paginator<SIZE> {
    fn default() -> Self {
        Self { offset: 0, partial: [0; SIZE], filled: 0 }
    }
}

impl<const SIZE: usize> Paginator<SIZE> {
    /// Offset of the next byte in the image.
    pub(super) fn at(&self) -> u64 {
        self.offset + self.filled as u64
    }

    pub(super) fn data(&mut self, mut bytes: &[u8], next: &mut impl FnMut(Piece<SIZE>)) {
        if self.filled > 0 {
            bytes = &bytes[self.fill(bytes, next)..];
        }
        while let Some((page, rest)) = bytes.split_first_chunk() {
            next(Piece::Page { offset: self.offset, page, len: SIZE });
            self.offset += SIZE as u64;
            bytes = rest;
        }
        self.fill(bytes, next);
    }

    pub(super) fn hole(&mut self, mut len: u64, next: &mut impl FnMut(Piece<SIZE>)) {
        if self.filled > 0 {
            len -= self.fill_zeros(len, next);
        }
        let pages = len / SIZE as u64;
        if pages > 0 {
            next(Piece::Zeros(pages));
            self.offset += pages * SIZE as u64;
        }
        self.fill_zeros(len % SIZE as u64, next);
    }

    /// Passes over bytes of whole pages, in pieces of any length; returns how many pages end with them.
    pub(super) fn elsewhere(&mut self, len: u64) -> u64 {
        let before = self.offset / SIZE as u64;
        self.offset += len;
        self.offset / SIZE as u64 - before
    }

    /// Emits the short last page, if any.
    pub(super) fn finish(mut self, next: &mut impl FnMut(Piece<SIZE>)) {
        if self.filled > 0 {
            self.partial[self.filled..].fill(0);
            next(Piece::Page { offset: self.offset, page: &self.partial, len: self.filled });
        }
    }

    fn fill_zeros(&mut self, len: u64, next: &mut impl FnMut(Piece<SIZE>)) -> u64 {
        let taken = len.min(SIZE as u64) as usize;
        self.fill(&[0; SIZE][..taken], next) as u64
    }

    /// Fills the partial page with as many bytes as fit and emits it when full; returns the number of bytes taken.
    fn fill(&mut self, bytes: &[u8], next: &mut impl FnMut(Piece<SIZE>)) -> usize {
        let taken = bytes.len().min(SIZE - self.filled);
        self.partial[self.filled..][..taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        if self.filled == SIZE {
            next(Piece::Page { offset: self.offset, page: &self.partial, len: SIZE });
            self.offset += SIZE as u64;
            self.filled = 0;
        }
        taken
    }
}
