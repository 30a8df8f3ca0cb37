//! A block being filled.
//!
//! Invariant: the spans add up to the buffered bytes, and adjacent ones are merged.

use super::cut::{Cut, Span};
use super::page::is_zero;

/// Bytes of blocks not yet cut, and their positions in the image.
#[derive(Default)]
pub(super) struct BlockBuffer {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl BlockBuffer {
    /// Number of buffered bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the bytes at `offset` of the image.
    pub(super) fn add(&mut self, offset: u64, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.add_span(offset, bytes.len() as u64);
    }

    /// Cuts a block from the first `len` bytes; the rest starts the next one. An all-zero block is not emitted.
    pub(super) fn cut(&mut self, len: usize, out: &mut dyn FnMut(Cut)) {
        let spans = self.cut_spans(len as u64);
        let mut rest = Vec::with_capacity(self.bytes.len());
        rest.extend_from_slice(&self.bytes[len..]);
        self.bytes.truncate(len);
        let bytes = std::mem::replace(&mut self.bytes, rest);
        if !is_zero(&bytes) {
            out(Cut { bytes, spans });
        }
    }

    /// Cuts a block from all buffered bytes, if any.
    pub(super) fn cut_all(&mut self, out: &mut dyn FnMut(Cut)) {
        self.cut(self.bytes.len(), out);
    }

    fn add_span(&mut self, offset: u64, len: u64) {
        match self.spans.last_mut() {
            Some(last) if last.offset + last.len == offset => last.len += len,
            _ if len == 0 => {}
            _ => self.spans.push(Span { offset, len }),
        }
    }

    fn cut_spans(&mut self, len: u64) -> Vec<Span> {
        let mut left = len;
        let whole = self.spans.iter().take_while(|span| take(&mut left, span.len)).count();
        let mut front: Vec<Span> = self.spans.drain(..whole).collect();
        if left > 0 {
            let first = &mut self.spans[0];
            front.push(Span { offset: first.offset, len: left });
            *first = Span { offset: first.offset + left, len: first.len - left };
        }
        front
    }
}

/// Subtracts `len` from `left` if it is not larger; returns whether it was subtracted.
fn take(left: &mut u64, len: u64) -> bool {
    let fits = len <= *left;
    if fits {
        *left -= len;
    }
    fits
}
