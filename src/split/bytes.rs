//! `bytes 1`, and the same with smaller blocks: boundaries that a [`Gear`] chooses, at any byte.

use super::block_buffer::BlockBuffer;
use super::cut::Cut;
use super::gear::{Gear, Sizes};
use super::holes::Run;

/// The data between two holes.
pub(super) struct Bytes {
    pub(super) gear: Gear,
    pub(super) block: BlockBuffer,
}

impl Bytes {
    pub(super) fn new(sizes: &'static Sizes) -> Self {
        Self { gear: Gear::new(sizes), block: BlockBuffer::default() }
    }
}

impl Run for Bytes {
    fn add(&mut self, mut offset: u64, mut bytes: &[u8], out: &mut dyn FnMut(Cut)) {
        while let Some(len) = self.gear.border(self.block.len(), bytes) {
            self.block.add(offset, &bytes[..len]);
            self.block.cut_all(out);
            offset += len as u64;
            bytes = &bytes[len..];
        }
        self.block.add(offset, bytes);
    }

    fn end(&mut self, out: &mut dyn FnMut(Cut)) {
        self.block.cut_all(out);
    }
}
