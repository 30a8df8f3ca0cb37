//! `pages 1`: the decisions. Page classes in, borders out; no byte of the image is copied or kept here.
//!
//! Directory and inode pages are taken out of the stream and gathered; the *stream* below is what remains. Its blocks
//! end, in order of preference: where a file seems to end, where a directory stood, where a big file seems to begin, and
//! at a page chosen by its hash among the last 64 of the 256 that a block may have.
//! Invariant: a step depends only on the pages so far, so the state is a few numbers and at most 7 page numbers.

use super::page::Class;

/// Any tail ends a block that has so many pages with it.
const TAIL_FROM: u32 = 72;
/// A directory ends a block that has so many pages before it.
const DIRECTORY_FROM: u32 = 20;
/// So many pages in a row without a tail are the inside of a big file, which then gets a block of its own,
const BIG_FILE: u32 = 24;
/// unless fewer pages than this would be left before it.
const BIG_FILE_LEAVES: u32 = 4;
/// Pages of a block beyond this one compete to be its last,
const WINDOW_FROM: u32 = 192;
/// when it has so many and nothing else ended it.
const MAX: u32 = 256;
/// So many zero pages in a row are a hole.
const HOLE: usize = 8;
/// A block of gathered pages ends with a page whose hash is a multiple of `META_MASK + 1`, from so many pages on,
const META_FROM: u32 = 16;
const META_MASK: u64 = 31;
/// or when it has so many.
const META_MAX: u32 = 128;

/// What is to be done next; "the page" is the one that was just handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The page belongs to the block.
    Data,
    /// The zero page with this number, seen before, belongs to the block: it was no hole.
    Zero(u64),
    /// The block ends after so many of its pages; what it has beyond them starts the next one.
    End(u32),
    /// The page belongs to the block of gathered pages.
    Meta,
    /// The block of gathered pages ends here.
    EndMeta,
}

/// The state between two pages.
#[derive(Default)]
pub(super) struct Boundaries {
    /// Number of the next page of the image.
    next_page: u64,
    /// Pages in the block so far.
    len: u32,
    /// Pages in the block up to and with its last tail; 0 if it has none.
    tail: u32,
    /// The smallest hash in the window, and the pages in the block up to and with that page.
    best: Option<(u64, u32)>,
    /// The zero pages at the end of the stream, if there are fewer than `HOLE`.
    zeros: [u64; HOLE - 1],
    /// How many zero pages the stream ends with; `HOLE` stands for that many and more.
    zero_count: usize,
    /// Pages in the block of gathered pages.
    meta_len: u32,
}

impl Boundaries {
    /// The next page of the image. Its hash is asked for only where it can matter.
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

    /// The next `pages` pages of the image are all zero.
    pub(super) fn zeros(&mut self, pages: u64, step: &mut impl FnMut(Step)) {
        for page in 0..pages.min((HOLE - self.zero_count) as u64) {
            if let Some(slot) = self.zeros.get_mut(self.zero_count) {
                *slot = self.next_page + page;
            }
            self.zero_count += 1;
            if self.zero_count == HOLE {
                self.end_all(step);
            }
        }
        self.next_page += pages;
    }

    /// The image ends: zeros at its end are a hole, however few.
    pub(super) fn finish(mut self, step: &mut impl FnMut(Step)) {
        self.end_all(step);
        self.end_meta(step);
    }

    fn directory(&mut self, step: &mut impl FnMut(Step)) {
        if self.zero_count == 0 && self.len >= DIRECTORY_FROM {
            self.end_all(step);
        }
    }

    fn meta(&mut self, hash: impl FnOnce() -> u64, step: &mut impl FnMut(Step)) {
        step(Step::Meta);
        self.meta_len += 1;
        let full = self.meta_len == META_MAX;
        if full || self.meta_len >= META_FROM && hash() & META_MASK == 0 {
            self.end_meta(step);
        }
    }

    fn data(&mut self, is_tail: bool, hash: impl FnOnce() -> u64, step: &mut impl FnMut(Step)) {
        self.keep_zeros(step);
        step(Step::Data);
        self.len += 1;
        if is_tail && self.len >= TAIL_FROM {
            return self.end_all(step);
        }
        if is_tail {
            self.tail = self.len;
        } else {
            self.end_before_big_file(step);
        }
        if self.len > WINDOW_FROM {
            let hash = hash();
            if self.best.is_none_or(|(best, _)| hash < best) {
                self.best = Some((hash, self.len));
            }
            self.end_if_full(step);
        }
    }

    /// The zero pages that wait were too few for a hole: they are data, but neither tails nor chosen by hash.
    fn keep_zeros(&mut self, step: &mut impl FnMut(Step)) {
        let count = std::mem::take(&mut self.zero_count);
        if count == HOLE {
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
        if self.tail >= BIG_FILE_LEAVES && self.len - self.tail >= BIG_FILE {
            self.end(self.tail, step);
        }
    }

    fn end_if_full(&mut self, step: &mut impl FnMut(Step)) {
        if self.len >= MAX {
            // Fewer than 8 zero pages follow each other, so some page of the window has a hash.
            let (_, pages) = self.best.unwrap_or((0, self.len));
            self.end(pages, step);
        }
    }

    fn end_all(&mut self, step: &mut impl FnMut(Step)) {
        if self.len > 0 {
            self.end(self.len, step);
        }
    }

    /// No tail and no candidate can stand behind a border, so both are forgotten.
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
