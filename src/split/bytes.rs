//! `bytes 1`: the bytes. Removes the holes and cuts the data between them at the boundaries of [`Gear`].
//!
//! A hole is a run of at least 8 zero pages, aligned to 4096 in the image, or a shorter run that ends the image.

use super::block_buffer::BlockBuffer;
use super::cut::Cut;
use super::gear::Gear;
use super::page::{PAGE, is_zero};
use super::paginate::{Paginator, Piece};

/// Minimum length of a hole, in zero pages.
const HOLE: u64 = 8;

#[derive(Default)]
pub(super) struct Bytes {
    pager: Paginator<PAGE>,
    stretch: Stretch,
}

/// The data between two holes.
#[derive(Default)]
struct Stretch {
    gear: Gear,
    block: BlockBuffer,
    /// Zero pages at the end so far, which may become a hole; capped at `HOLE`.
    zero_pages: u64,
}

impl Bytes {
    pub(super) fn data(&mut self, bytes: &[u8], out: &mut dyn FnMut(Cut)) {
        let stretch = &mut self.stretch;
        self.pager.data(bytes, &mut |piece| stretch.next(piece, out));
    }

    pub(super) fn hole(&mut self, len: u64, out: &mut dyn FnMut(Cut)) {
        let stretch = &mut self.stretch;
        self.pager.hole(len, &mut |piece| stretch.next(piece, out));
    }

    pub(super) fn finish(self, out: &mut dyn FnMut(Cut)) {
        let mut stretch = self.stretch;
        self.pager.finish(&mut |piece| stretch.next(piece, out));
        stretch.block.cut_all(out);
    }
}

impl Stretch {
    fn next(&mut self, piece: Piece<PAGE>, out: &mut dyn FnMut(Cut)) {
        match piece {
            Piece::Zeros(pages) => self.zeros(pages, out),
            Piece::Page { page, .. } if is_zero(page) => self.zeros(1, out),
            Piece::Page { offset, page, len } => {
                self.keep_zeros(offset, out);
                self.add(offset, &page[..len], out);
            }
        }
    }

    fn zeros(&mut self, pages: u64, out: &mut dyn FnMut(Cut)) {
        self.zero_pages = HOLE.min(self.zero_pages.saturating_add(pages));
        if self.zero_pages == HOLE {
            self.block.cut_all(out);
        }
    }

    /// Adds the zero pages before `offset` as data: too few for a hole.
    fn keep_zeros(&mut self, offset: u64, out: &mut dyn FnMut(Cut)) {
        let pages = std::mem::take(&mut self.zero_pages);
        for page in (1..=pages % HOLE).rev() {
            self.add(offset - page * PAGE as u64, &[0; PAGE], out);
        }
    }

    fn add(&mut self, mut offset: u64, mut bytes: &[u8], out: &mut dyn FnMut(Cut)) {
        while let Some(len) = self.gear.border(self.block.len(), bytes) {
            self.block.add(offset, &bytes[..len]);
            self.block.cut_all(out);
            offset += len as u64;
            bytes = &bytes[len..];
        }
        self.block.add(offset, bytes);
    }
}
