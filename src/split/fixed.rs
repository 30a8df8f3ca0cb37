//! `fixed N`: blocks of N bytes at multiples of N; the last one may be shorter. An all-zero block is a hole.

use super::block_buffer::BlockBuffer;
use super::cut::Cut;
use super::rule::Rule;

pub(super) struct Fixed {
    size: usize,
    /// Offset of the current block in the image.
    offset: u64,
    block: BlockBuffer,
}

impl Fixed {
    pub(super) fn new(bytes: u32) -> Fixed {
        assert!(Rule::fixed(bytes.into()).is_ok(), "blocks of {bytes} bytes are not allowed");
        Fixed { size: bytes as usize, offset: 0, block: BlockBuffer::default() }
    }

    pub(super) fn data(&mut self, mut bytes: &[u8], out: &mut dyn FnMut(Cut)) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.room()));
            self.add(now, out);
            bytes = later;
        }
    }

    pub(super) fn hole(&mut self, mut len: u64, out: &mut dyn FnMut(Cut)) {
        if self.block.len() > 0 {
            len -= self.zeros(len, out);
        }
        self.offset += len - len % self.size as u64;
        self.zeros(len % self.size as u64, out);
    }

    pub(super) fn finish(mut self, out: &mut dyn FnMut(Cut)) {
        self.block.cut_all(out);
    }

    fn room(&self) -> usize {
        self.size - self.block.len()
    }

    fn zeros(&mut self, len: u64, out: &mut dyn FnMut(Cut)) -> u64 {
        let taken = len.min(self.room() as u64);
        self.add(&vec![0; taken as usize], out);
        taken
    }

    fn add(&mut self, bytes: &[u8], out: &mut dyn FnMut(Cut)) {
        self.block.add(self.offset + self.block.len() as u64, bytes);
        if self.block.len() == self.size {
            self.block.cut_all(out);
            self.offset += self.size as u64;
        }
    }
}
