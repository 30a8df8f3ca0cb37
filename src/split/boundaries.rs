//! `pages 1`: the decisions. Page classes in, boundaries out; no byte of the image is copied or kept here.
//!
//! Directory and inode pages are collected in metadata blocks; the *stream* below is what remains. Its blocks end, in
//! order of preference: where a file seems to end, where a directory was, where a big file seems to begin, and at a
//! page chosen by hash among the last 64 of the 256 that a block may have (of 4096 bytes; of smaller pages
//! proportionally more).
//! Invariant: a step depends only on the pages so far, so the state is a few numbers and at most 31 page numbers.

use super::page::Class;

/// Minimum length of a hole in pages of 1024 bytes, the smallest.
const HOLE_MAX: usize = 32;

/// The next action; "the page" is the one just passed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Append the page to the block.
    Data,
    /// Append an earlier zero page, by its number in the image: it was not part of a hole.
    Zero(u64),
    /// End the block after this many of its pages; the rest start the next one.
    End(u32),
    /// Append the page to the metadata block.
    Meta,
    /// End the metadata block.
    EndMeta,
}

/// The state between two pages.
#[derive(Default)]
pub(super) struct Boundaries<const SIZE: usize> {
    /// Number of the next page of the image.
    next_page: u64,
    /// Pages in the block so far.
    len: u32,
    /// Pages in the block up to and including its last tail; 0 if it has none.
    tail: u32,
    /// The smallest hash in the window, and the pages in the block up to and including that page.
    best: Option<(u64, u32)>,
    /// Numbers of the zero pages at the end of the stream, if too few for a hole.
    zeros: [u64; HOLE_MAX - 1],
    /// Number of zero pages at the end of the stream, capped at `HOLE`.
    zero_count: usize,
    /// Pages in the metadata block.
    meta_len: u32,
}

/// The constants of the rule, in pages of `SIZE` bytes: as many bytes for every size.
impl<const SIZE: usize> Boundaries<SIZE> {
    /// A page of 4096 bytes in pages of this size.
    const PAGE: u32 = {
        assert!(SIZE == 1024 || SIZE == 2048 || SIZE == 4096);
        (4096 / SIZE) as u32
    };
    /// A tail page ends the block if the block then has at least this many pages.
    const TAIL_FROM: u32 = 72 * Self::PAGE;
    /// A directory page ends the block before it if that has at least this many pages.
    const DIRECTORY_FROM: u32 = 20 * Self::PAGE;
    /// This many pages in a row without a tail mean the inside of a big file, which starts a new block,
    const BIG_FILE: u32 = 24 * Self::PAGE;
    /// unless the block before it would have fewer pages than this.
    const BIG_FILE_LEAVES: u32 = 4 * Self::PAGE;
    /// Pages of a block after this many are candidates for its last page,
    const WINDOW_FROM: u32 = 192 * Self::PAGE;
    /// chosen when the block reaches this many and nothing else has ended it.
    const MAX: u32 = 256 * Self::PAGE;
    /// Minimum length of a hole, in zero pages.
    const HOLE: usize = 8 * Self::PAGE as usize;
    /// From this many pages on, a metadata block ends with a page whose hash is a multiple of `META_MASK + 1`,
    const META_FROM: u32 = 16 * Self::PAGE;
    const META_MASK: u64 = 32 * Self::PAGE as u64 - 1;
    /// or at this many pages.
    const META_MAX: u32 = 128 * Self::PAGE;
}

impl<const SIZE: usize> Boundaries<SIZE> {
    /// Handles the next page of the image. Its hash is computed only where it can matter.
    #[inline]
    pub(super) fn page(&mut self, class: Class, hash: impl FnOnce() -> u64, step: &mut impl FnMut(Step)) {
        match class {
            Class::Zero => return self.zeros(1, step),
            Class::Directory => {
                self.directory(step);
                self.meta(hash, step);
            }
            Class::Inodes => self.meta(hash, step),
            Class::Tail => self.data(true, hash, step),
            Class::Plain => self.data(false, hash, step),
        }
        self.next_page += 1;
    }

    /// Handles the next `pages` pages of the image, all zero.
    pub(super) fn zeros(&mut self, pages: u64, step: &mut impl FnMut(Step)) {
        for page in 0..pages.min((Self::HOLE - self.zero_count) as u64) {
            if let Some(slot) = self.zeros.get_mut(self.zero_count) {
                *slot = self.next_page + page;
            }
            self.zero_count += 1;
            if self.zero_count == Self::HOLE {
                self.end_all(step);
            }
        }
        self.next_page += pages;
    }

    /// Passes over pages that are not part of the stream.
    pub(super) fn elsewhere(&mut self, pages: u64) {
        self.next_page += pages;
    }

    /// Ends the image: zero pages at its end are a hole, however few.
    pub(super) fn finish(mut self, step: &mut impl FnMut(Step)) {
        self.end_all(step);
        self.end_meta(step);
    }

    fn directory(&mut self, step: &mut impl FnMut(Step)) {
        if self.zero_count == 0 && self.len >= Self::DIRECTORY_FROM {
            self.end_all(step);
        }
    }

    fn meta(&mut self, hash: impl FnOnce() -> u64, step: &mut impl FnMut(Step)) {
        step(Step::Meta);
        self.meta_len += 1;
        let full = self.meta_len == Self::META_MAX;
        if full || self.meta_len >= Self::META_FROM && hash() & Self::META_MASK == 0 {
            self.end_meta(step);
        }
    }

    fn data(&mut self, is_tail: bool, hash: impl FnOnce() -> u64, step: &mut impl FnMut(Step)) {
        self.keep_zeros(step);
        step(Step::Data);
        self.len += 1;
        if is_tail && self.len >= Self::TAIL_FROM {
            return self.end_all(step);
        }
        if is_tail {
            self.tail = self.len;
        } else {
            self.end_before_big_file(step);
        }
        if self.len > Self::WINDOW_FROM {
            let hash = hash();
            if self.best.is_none_or(|(best, _)| hash < best) {
                self.best = Some((hash, self.len));
            }
            self.end_if_full(step);
        }
    }

    /// Adds the pending zero pages as data: too few for a hole. They are neither tails nor hash candidates.
    fn keep_zeros(&mut self, step: &mut impl FnMut(Step)) {
        let count = std::mem::take(&mut self.zero_count);
        if count == Self::HOLE {
            return;
        }
        for index in 0..count {
            step(Step::Zero(self.zeros[index]));
            self.len += 1;
            self.end_before_big_file(step);
            self.end_if_full(step);
        }
    }

    fn end_before_big_file(&mut self, step: &mut impl FnMut(Step)) {
        if self.tail >= Self::BIG_FILE_LEAVES && self.len - self.tail >= Self::BIG_FILE {
            self.end(self.tail, step);
        }
    }

    fn end_if_full(&mut self, step: &mut impl FnMut(Step)) {
        if self.len >= Self::MAX {
            // Too few zero pages for a hole are consecutive here, so some page of the window has a hash.
            let (_, pages) = self.best.unwrap_or((0, self.len));
            self.end(pages, step);
        }
    }

    fn end_all(&mut self, step: &mut impl FnMut(Step)) {
        if self.len > 0 {
            self.end(self.len, step);
        }
    }

    /// No tail or candidate remains after a boundary, so both are reset.
    fn end(&mut self, pages: u32, step: &mut impl FnMut(Step)) {
        step(Step::End(pages));
        self.len -= pages;
        self.tail = 0;
        self.best = None;
    }

    fn end_meta(&mut self, step: &mut impl FnMut(Step)) {
        if self.meta_len > 0 {
            step(Step::EndMeta);
            self.meta_len = 0;
        }
    }
}
