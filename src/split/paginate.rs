//! Turns calls with any number of bytes into the image's pages.
//!
//! Invariant: the pages that come out depend only on the bytes, so whatever is built on them does too. Holes stay
//! numbers: whole pages of one come out as a count.

use super::page::{PAGE, Page};

/// The next thing in the image.
pub(super) enum Piece<'a> {
    /// The page at this offset; only its first `len` bytes exist (fewer than a page's only in the image's last page),
    /// the others are zero.
    Page { offset: u64, page: &'a Page, len: usize },
    /// So many pages of zeros that nobody read.
    Zeros(u64),
}

/// The bytes since the last whole page, and where in the image that page began.
pub(super) struct Paginator {
    offset: u64,
    partial: Page,
    filled: usize,
}

impl Default for Paginator {
    fn default() -> Paginator {
        Paginator { offset: 0, partial: [0; PAGE], filled: 0 }
    }
}

impl Paginator {
    pub(super) fn data(&mut self, mut bytes: &[u8], next: &mut impl FnMut(Piece)) {
        if self.filled > 0 {
            bytes = &bytes[self.fill(bytes, next)..];
        }
        while let Some((page, rest)) = bytes.split_first_chunk() {
            next(Piece::Page { offset: self.offset, page, len: PAGE });
            self.offset += PAGE as u64;
            bytes = rest;
        }
        self.fill(bytes, next);
    }

    pub(super) fn hole(&mut self, mut len: u64, next: &mut impl FnMut(Piece)) {
        if self.filled > 0 {
            len -= self.fill_zeros(len, next);
        }
        let pages = len / PAGE as u64;
        if pages > 0 {
            next(Piece::Zeros(pages));
            self.offset += pages * PAGE as u64;
        }
        self.fill_zeros(len % PAGE as u64, next);
    }

    /// Hands out the short last page, if there is one.
    pub(super) fn finish(mut self, next: &mut impl FnMut(Piece)) {
        if self.filled > 0 {
            self.partial[self.filled..].fill(0);
            next(Piece::Page { offset: self.offset, page: &self.partial, len: self.filled });
        }
    }

    fn fill_zeros(&mut self, len: u64, next: &mut impl FnMut(Piece)) -> u64 {
        let taken = len.min(PAGE as u64) as usize;
        self.fill(&[0; PAGE][..taken], next) as u64
    }

    /// Puts as many bytes as fit into the partial page, hands it out when it is full, and says how many those were.
    fn fill(&mut self, bytes: &[u8], next: &mut impl FnMut(Piece)) -> usize {
        let taken = bytes.len().min(PAGE - self.filled);
        self.partial[self.filled..][..taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        if self.filled == PAGE {
            next(Piece::Page { offset: self.offset, page: &self.partial, len: PAGE });
            self.offset += PAGE as u64;
            self.filled = 0;
        }
        taken
    }
}
