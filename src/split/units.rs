//! `units`: a compressed squashfs. Blocks end where files end.
//!
//! A squashfs is a sequence of compressed units, one for each of its blocks. All blocks of a file but the last are full, so
//! a unit that unpacks to less ends a file, or is a block of small files. A change spoils the units of the file that
//! changed, and no others, so such an end is the best place for a boundary. No table is needed, which would lie behind the
//! data: every unit states its length, or is unpacked for it.

use super::bytes::Bytes;
use super::cut::Cut;
use super::gear::COARSE;
use super::holes::Run;
use super::unit::{Codec, UNIT_MAX_BYTES};

/// A unit that is not full ends the block if that then has at least this many bytes.
const END_FROM: usize = 32 << 10;
/// Any unit ends the block if that then has at least this many bytes.
const FULL_FROM: usize = 256 << 10;
/// The largest block, in bytes.
const MAX: usize = 1 << 20;
/// Bytes that are collected before they are cut, beyond those that a unit may have.
const BATCH_BYTES: usize = 1 << 20;

/// The data between two holes.
pub(super) struct Units {
    codec: Codec,
    /// Room for what a full unit unpacks to.
    unpacked: Vec<u8>,
    /// Bytes that are not in the block yet, and the offset of the first of them in the image.
    ahead: Vec<u8>,
    ahead_at: u64,
    /// The block, and what cuts the bytes between units: blocks that were stored as they are, and tables.
    between: Bytes,
}

impl Units {
    /// `full` is the block size of the squashfs, in bytes.
    pub(super) fn new(codec: Codec, full: usize) -> Self {
        let between = Bytes::new(&COARSE);
        Self { codec, unpacked: vec![0; full], ahead: Vec::new(), ahead_at: 0, between }
    }

    /// Cuts what was collected, until fewer than `keep` bytes are left.
    fn work(&mut self, keep: usize, out: &mut dyn FnMut(Cut)) {
        let ahead = std::mem::take(&mut self.ahead);
        let mut at = 0;
        while at < ahead.len() && ahead.len() - at >= keep {
            let rest = &ahead[at..];
            let offset = self.ahead_at + at as u64;
            at += match self.codec.unit(rest, &mut self.unpacked) {
                Some(unit) => {
                    self.unit(offset, &rest[..unit.bytes], unit.unpacked < self.unpacked.len() as u64, out);
                    unit.bytes
                }
                None => {
                    // A place that is not far enough from the end is looked at again when more bytes have come.
                    let known = (rest.len() - keep + 1).min(rest.len());
                    let between = self.codec.next_place(rest).min(known);
                    self.between.add(offset, &rest[..between], out);
                    between
                }
            };
        }
        self.ahead_at += at as u64;
        self.ahead = ahead;
        self.ahead.drain(..at);
    }

    fn unit(&mut self, offset: u64, bytes: &[u8], is_end: bool, out: &mut dyn FnMut(Cut)) {
        let Bytes { gear, block } = &mut self.between;
        if block.len() + bytes.len() > MAX {
            block.cut_all(out);
        }
        block.add(offset, bytes);
        if block.len() >= FULL_FROM || is_end && block.len() >= END_FROM {
            block.cut_all(out);
        }
        gear.restart();
    }
}

impl Run for Units {
    fn add(&mut self, offset: u64, bytes: &[u8], out: &mut dyn FnMut(Cut)) {
        if self.ahead.is_empty() {
            self.ahead_at = offset;
        }
        self.ahead.extend_from_slice(bytes);
        if self.ahead.len() >= UNIT_MAX_BYTES + BATCH_BYTES {
            self.work(UNIT_MAX_BYTES, out);
        }
    }

    fn end(&mut self, out: &mut dyn FnMut(Cut)) {
        self.work(0, out);
        self.between.end(out);
        self.between.gear.restart();
    }
}
