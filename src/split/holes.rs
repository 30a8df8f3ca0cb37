//! The data between holes: what the rules without page classes have in common.
//!
//! A hole is a run of at least 8 zero pages, aligned to 4096 in the image, or a shorter run that ends the image.

use super::cut::Cut;
use super::page::{PAGE, is_zero};
use super::paginate::{Paginator, Piece};

/// Minimum length of a hole, in zero pages.
const HOLE: u64 = 8;

/// What cuts the data between two holes.
pub(super) trait Run {
    /// Takes the next page, of which the last one of the image may be short. `offset` is its place in the image.
    fn add(&mut self, offset: u64, bytes: &[u8], out: &mut dyn FnMut(Cut));

    /// A hole follows, or the end of the image.
    fn end(&mut self, out: &mut dyn FnMut(Cut));
}

/// A splitter that removes the holes.
#[derive(Default)]
pub(super) struct Holes<R> {
    pager: Paginator<PAGE>,
    data: Data<R>,
}

#[derive(Default)]
struct Data<R> {
    run: R,
    /// Zero pages at the end so far, which may become a hole; capped at `HOLE`.
    zero_pages: u64,
}

impl<R: Run> Holes<R> {
    pub(super) fn new(run: R) -> Self {
        Self { pager: Paginator::default(), data: Data { run, zero_pages: 0 } }
    }

    pub(super) fn data(&mut self, bytes: &[u8], out: &mut dyn FnMut(Cut)) {
        let data = &mut self.data;
        self.pager.data(bytes, &mut |piece| data.next(piece, out));
    }

    pub(super) fn hole(&mut self, len: u64, out: &mut dyn FnMut(Cut)) {
        let data = &mut self.data;
        self.pager.hole(len, &mut |piece| data.next(piece, out));
    }

    pub(super) fn finish(self, out: &mut dyn FnMut(Cut)) {
        let mut data = self.data;
        self.pager.finish(&mut |piece| data.next(piece, out));
        data.run.end(out);
    }
}

impl<R: Run> Data<R> {
    fn next(&mut self, piece: Piece<PAGE>, out: &mut dyn FnMut(Cut)) {
        match piece {
            Piece::Zeros(pages) => self.zeros(pages, out),
            Piece::Page { page, .. } if is_zero(page) => self.zeros(1, out),
            Piece::Page { offset, page, len } => {
                self.keep_zeros(offset, out);
                self.run.add(offset, &page[..len], out);
            }
        }
    }

    fn zeros(&mut self, pages: u64, out: &mut dyn FnMut(Cut)) {
        self.zero_pages = HOLE.min(self.zero_pages.saturating_add(pages));
        if self.zero_pages == HOLE {
            self.run.end(out);
        }
    }

    /// Adds the zero pages before `offset` as data: too few for a hole.
    fn keep_zeros(&mut self, offset: u64, out: &mut dyn FnMut(Cut)) {
        let pages = std::mem::take(&mut self.zero_pages);
        for page in (1..=pages % HOLE).rev() {
            self.run.add(offset - page * PAGE as u64, &[0; PAGE], out);
        }
    }
}
