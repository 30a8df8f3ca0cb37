//! The files of an ext4, in the order of their paths, whatever order they have in the image: a part of `content 2`.
//!
//! An image that is filled through a mount has its files elsewhere each time. The order of their paths stays, so files that
//! did not change find the same neighbours again. Files of some size have blocks of their own; small ones share them.

use std::ops::Range;

use super::block_buffer::BlockBuffer;
use super::claims::Claims;
use super::cut::Cut;
use super::ext::{self, Ext};
use super::lookup::Stretch;
use super::page::{hash, is_zero};
use crate::error::Error;

/// A file of at least this many bytes begins a block,
const OWN_FROM_BYTES: u64 = 80 << 10;
/// unless the block before it would have fewer bytes than this.
const LEAVES_BYTES: usize = 16 << 10;
/// The end of a file ends a block of at least this many bytes.
const END_FROM_BYTES: usize = 256 << 10;
/// Within a file, pages of a block after this many bytes are candidates for its last page,
const WINDOW_FROM_BYTES: usize = 768 << 10;
/// chosen when the block reaches this many.
const MAX_BYTES: usize = 1 << 20;
/// Zeros of a file that are left out, in bytes.
const HOLE_BYTES: usize = 32 << 10;
/// Bytes per read.
const CHUNK_BYTES: u64 = 1 << 20;

/// Cuts the files of the file system, which has blocks of `SIZE` bytes. Returns what of the stretch belongs to them.
///
/// # Errors
/// A failed read; the user cancelled.
pub(super) fn cut<const SIZE: usize>(
    mut ext: Ext<'_>,
    stretch: Stretch<'_>,
    out: &mut dyn FnMut(Cut),
) -> Result<Claims, Error> {
    let (mut claims, mut files) = (Claims::default(), Files::<SIZE>::new(stretch));
    let pages = stretch.bytes() / SIZE as u64;
    ext::files(&mut ext, &mut |blocks| {
        let inside = blocks.into_iter().map(|run| run.start.min(pages)..run.end.min(pages));
        let bytes = inside.map(|run| run.start * SIZE as u64..run.end * SIZE as u64);
        let runs: Vec<Range<u64>> = bytes.flat_map(|run| claims.add(run)).collect();
        files.file(&runs, out)
    })?;
    files.block.cut_all(out);
    Ok(claims)
}

struct Files<'a, const SIZE: usize> {
    stretch: Stretch<'a>,
    block: BlockBuffer,
    /// The smallest hash in the window, and the bytes of the block up to and including that page.
    best: Option<(u64, usize)>,
    /// Zero pages that may become too many to be stored.
    zeros: Vec<u64>,
    buffer: Vec<u8>,
}

impl<'a, const SIZE: usize> Files<'a, SIZE> {
    const HOLE: usize = HOLE_BYTES / SIZE;

    fn new(stretch: Stretch<'a>) -> Self {
        Self { stretch, block: BlockBuffer::default(), best: None, zeros: Vec::new(), buffer: Vec::new() }
    }

    /// Cuts a file that consists of these ranges of the stretch.
    fn file(&mut self, runs: &[Range<u64>], out: &mut dyn FnMut(Cut)) -> Result<(), Error> {
        let bytes: u64 = runs.iter().map(|run| run.end - run.start).sum();
        if bytes >= OWN_FROM_BYTES && self.block.len() >= LEAVES_BYTES {
            self.end(self.block.len(), out);
        }
        for run in runs {
            let mut at = run.start;
            while at < run.end {
                let left = run.end - at;
                let zeros = if left < HOLE_BYTES as u64 { 0 } else { self.stretch.hole(at, left) / SIZE as u64 };
                if zeros > 0 {
                    self.hole(at, zeros);
                    at += zeros * SIZE as u64;
                    continue;
                }
                let length = CHUNK_BYTES.min(left);
                self.read(at, length as usize, out)?;
                at += length;
            }
        }
        // Zeros at its end are not stored.
        self.zeros.clear();
        if self.block.len() >= END_FROM_BYTES {
            self.end(self.block.len(), out);
        }
        Ok(())
    }

    /// Takes in pages of zeros without reading them.
    fn hole(&mut self, at: u64, pages: u64) {
        let count = pages.min((Self::HOLE - self.zeros.len()) as u64);
        self.zeros.extend((at..).step_by(SIZE).take(count as usize));
        self.stretch.passed(pages * SIZE as u64);
    }

    fn read(&mut self, at: u64, length: usize, out: &mut dyn FnMut(Cut)) -> Result<(), Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(length, 0);
        self.stretch.read(at, &mut buffer)?;
        for (page, offset) in buffer.as_chunks::<SIZE>().0.iter().zip((at..).step_by(SIZE)) {
            self.page(offset, page, out);
        }
        self.buffer = buffer;
        self.stretch.passed(length as u64);
        Ok(())
    }

    fn page(&mut self, offset: u64, page: &[u8; SIZE], out: &mut dyn FnMut(Cut)) {
        if is_zero(page) {
            // No more than that many are kept in mind, which tells that they are a hole.
            if self.zeros.len() < Self::HOLE {
                self.zeros.push(offset);
            }
            return;
        }
        let mut zeros = std::mem::take(&mut self.zeros);
        if zeros.len() < Self::HOLE {
            zeros.iter().for_each(|&offset| self.add(offset, &[0; SIZE], false, out));
        }
        zeros.clear();
        self.zeros = zeros;
        self.add(offset, page, true, out);
    }

    fn add(&mut self, offset: u64, page: &[u8; SIZE], may_be_last: bool, out: &mut dyn FnMut(Cut)) {
        self.block.add(offset, page);
        if may_be_last && self.block.len() > WINDOW_FROM_BYTES {
            let hash = hash(page);
            if self.best.is_none_or(|(best, _)| hash < best) {
                self.best = Some((hash, self.block.len()));
            }
        }
        if self.block.len() >= MAX_BYTES {
            self.end(self.best.map_or(self.block.len(), |(_, bytes)| bytes), out);
        }
    }

    /// Ends the block after so many bytes.
    fn end(&mut self, bytes: usize, out: &mut dyn FnMut(Cut)) {
        self.best = None;
        self.block.cut(bytes, out);
    }
}
