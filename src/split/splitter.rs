//! The common interface of the three splitters.

use super::bytes::Bytes;
use super::cut::Cut;
use super::fixed::Fixed;
use super::pages::Pages;
use super::rule::Rule;

/// Consumes an image from first byte to last and emits its blocks. Bytes in no cut's span are holes.
pub struct Splitter(Inner);

enum Inner {
    Fixed(Fixed),
    Pages(Box<Pages>),
    Bytes(Box<Bytes>),
}

impl Splitter {
    /// A splitter at the start of an image.
    ///
    /// # Panics
    /// If [`Rule::Fixed`] has a size that [`Rule::fixed`] rejects.
    pub fn new(rule: Rule) -> Splitter {
        Splitter(match rule {
            Rule::Fixed(bytes) => Inner::Fixed(Fixed::new(bytes)),
            Rule::Pages => Inner::Pages(Box::default()),
            Rule::Bytes => Inner::Bytes(Box::default()),
        })
    }

    /// Consumes the next bytes of the image, in pieces of any length.
    pub fn data(&mut self, bytes: &[u8], out: &mut dyn FnMut(Cut)) {
        match &mut self.0 {
            Inner::Fixed(fixed) => fixed.data(bytes, out),
            Inner::Pages(pages) => pages.data(bytes, out),
            Inner::Bytes(splitter) => splitter.data(bytes, out),
        }
    }

    /// Consumes `len` zero bytes without reading them. The cost does not depend on `len`.
    pub fn hole(&mut self, len: u64, out: &mut dyn FnMut(Cut)) {
        match &mut self.0 {
            Inner::Fixed(fixed) => fixed.hole(len, out),
            Inner::Pages(pages) => pages.hole(len, out),
            Inner::Bytes(splitter) => splitter.hole(len, out),
        }
    }

    /// Ends the image and emits the remaining blocks.
    pub fn finish(self, out: &mut dyn FnMut(Cut)) {
        match self.0 {
            Inner::Fixed(fixed) => fixed.finish(out),
            Inner::Pages(pages) => pages.finish(out),
            Inner::Bytes(splitter) => splitter.finish(out),
        }
    }
}
