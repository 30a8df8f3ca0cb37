//! `pages 1`, with pages of any allowed size: the bytes. Follows the decisions of [`Boundaries`] and assembles data and
//! metadata blocks.

use std::ops::Range;

use super::block_buffer::BlockBuffer;
use super::boundaries::{Boundaries, Step};
use super::claims::Claims;
use super::cut::Cut;
use super::page::{self, Class, PAGE};
use super::paginate::{Paginator, Piece};

#[derive(Default)]
pub(super) struct Pages<const SIZE: usize> {
    pager: Paginator<SIZE>,
    assembly: Assembly<SIZE>,
    /// Whole pages that are cut elsewhere.
    elsewhere: Claims,
}

impl<const SIZE: usize> Pages<SIZE> {
    /// A splitter for what is left of an image.
    pub(super) fn without(elsewhere: Claims) -> Self {
        Self { elsewhere, ..Self::default() }
    }

    /// The next bytes, behind `at`, that need not be passed: they are cut elsewhere.
    pub(super) fn elsewhere(&self, at: u64) -> Option<Range<u64>> {
        self.elsewhere.next(at)
    }

    pub(super) fn data(&mut self, mut bytes: &[u8], out: &mut dyn FnMut(Cut)) {
        while !bytes.is_empty() {
            let (is_elsewhere, len) = self.elsewhere.run(self.pager.at(), bytes.len() as u64);
            let (now, later) = bytes.split_at(len as usize);
            match is_elsewhere {
                true => self.assembly.borders.elsewhere(self.pager.elsewhere(len)),
                false => self.pager.data(now, &mut |piece| self.assembly.next(piece, out)),
            }
            bytes = later;
        }
    }

    pub(super) fn hole(&mut self, mut len: u64, out: &mut dyn FnMut(Cut)) {
        while len > 0 {
            let (is_elsewhere, now) = self.elsewhere.run(self.pager.at(), len);
            match is_elsewhere {
                true => self.assembly.borders.elsewhere(self.pager.elsewhere(now)),
                false => self.pager.hole(now, &mut |piece| self.assembly.next(piece, out)),
            }
            len -= now;
        }
    }

    pub(super) fn finish(self, out: &mut dyn FnMut(Cut)) {
        let mut assembly = self.assembly;
        self.pager.finish(&mut |piece| assembly.next(piece, out));
        assembly.finish(out);
    }
}

/// The two blocks being filled, and the state that decides where they end.
#[derive(Default)]
struct Assembly<const SIZE: usize> {
    borders: Boundaries<SIZE>,
    blocks: Blocks,
}

#[derive(Default)]
struct Blocks {
    data: BlockBuffer,
    meta: BlockBuffer,
}

impl<const SIZE: usize> Assembly<SIZE> {
    #[inline]
    fn next(&mut self, piece: Piece<SIZE>, out: &mut dyn FnMut(Cut)) {
        let blocks = &mut self.blocks;
        match piece {
            Piece::Zeros(pages) => self.borders.zeros(pages, &mut |step| blocks.follow::<SIZE>(step, 0, &[], out)),
            Piece::Page { offset, page, len } => {
                let step = &mut |step| blocks.follow::<SIZE>(step, offset, &page[..len], out);
                self.borders.page(Class::of(page), || page::hash(page), step);
            }
        }
    }

    fn finish(self, out: &mut dyn FnMut(Cut)) {
        let mut blocks = self.blocks;
        self.borders.finish(&mut |step| blocks.follow::<SIZE>(step, 0, &[], out));
    }
}

impl Blocks {
    /// Performs one step; `bytes` is the current page, at `offset` of the image.
    fn follow<const SIZE: usize>(&mut self, step: Step, offset: u64, bytes: &[u8], out: &mut dyn FnMut(Cut)) {
        match step {
            Step::Data => self.data.add(offset, bytes),
            Step::Zero(page) => self.data.add(page * SIZE as u64, &[0; SIZE]),
            Step::End(pages) => self.data.cut(self.data.len().min(pages as usize * SIZE), out),
            Step::Meta => self.meta.add(offset, bytes),
            Step::EndMeta => self.meta.cut_all(out),
        }
    }
}

/// Number of boundaries `pages 1` finds in the whole pages of an image: the decisions alone, for benchmarks.
pub fn count_page_borders(image: &[u8]) -> usize {
    let mut borders = Boundaries::<PAGE>::default();
    let mut count = 0;
    let step = &mut |step| count += usize::from(matches!(step, Step::End(_) | Step::EndMeta));
    let mut rest = image;
    while let Some((page, behind)) = rest.split_first_chunk::<PAGE>() {
        borders.page(Class::of(page), || page::hash(page), step);
        rest = behind;
    }
    borders.finish(step);
    count
}
