//! The one interface of the three splitters.

use super::bytes::Bytes;
use super::cut::Cut;
use super::fixed::Fixed;
use super::pages::Pages;
use super::rule::Rule;

/// Takes an image from its first byte to its last and hands out its blocks. What is in no cut's span is a hole.
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
    /// If a size stands in [`Rule::Fixed`] that [`Rule::fixed`] refuses.
    pub fn new(rule: Rule) -> Splitter {
        Splitter(match rule {
            Rule::Fixed(bytes) => Inner::Fixed(Fixed::new(bytes)),
            Rule::Pages => Inner::Pages(Box::default()),
            Rule::Bytes => Inner::Bytes(Box::default()),
        })
    }

    /// The next bytes of the image, as many or few as the caller has at hand.
    pub fn data(&mut self, bytes: &[u8], out: &mut dyn FnMut(Cut)) {
        match &mut self.0 {
            Inner::Fixed(fixed) => fixed.data(bytes, out),
            Inner::Pages(pages) => pages.data(bytes, out),
            Inner::Bytes(splitter) => splitter.data(bytes, out),
        }
    }

    /// The next `len` bytes are zero, and nobody needs to read them. The cost does not depend on `len`.
    pub fn hole(&mut self, len: u64, out: &mut dyn FnMut(Cut)) {
        match &mut self.0 {
            Inner::Fixed(fixed) => fixed.hole(len, out),
            Inner::Pages(pages) => pages.hole(len, out),
            Inner::Bytes(splitter) => splitter.hole(len, out),
        }
    }

    /// The image ends here.
    pub fn finish(self, out: &mut dyn FnMut(Cut)) {
        match self.0 {
            Inner::Fixed(fixed) => fixed.finish(out),
            Inner::Pages(pages) => pages.finish(out),
            Inner::Bytes(splitter) => splitter.finish(out),
        }
    }
}
