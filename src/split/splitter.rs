//! The common interface of the splitters.

use super::content::Content;
use super::cut::Cut;
use super::plain::Plain;
use super::rule::Rule;

/// Consumes an image from first byte to last and emits its blocks. Bytes in no cut's span are holes.
pub struct Splitter(Inner);

enum Inner {
    Content(Box<Content>),
    Plain(Plain),
}

impl Splitter {
    /// A splitter at the start of an image.
    ///
    /// # Panics
    /// If [`Rule::Fixed`] has a size that [`Rule::fixed`] rejects.
    pub fn new(rule: Rule) -> Splitter {
        Splitter(match rule {
            Rule::Content => Inner::Content(Box::default()),
            Rule::Fixed(bytes) => Inner::Plain(Plain::fixed(bytes)),
            Rule::Pages(size) => Inner::Plain(Plain::pages(size)),
            Rule::Bytes => Inner::Plain(Plain::bytes()),
        })
    }

    /// Consumes the next bytes of the image, in pieces of any length.
    pub fn data(&mut self, bytes: &[u8], out: &mut dyn FnMut(Cut)) {
        match &mut self.0 {
            Inner::Content(content) => content.data(bytes, out),
            Inner::Plain(plain) => plain.data(bytes, out),
        }
    }

    /// Consumes `len` zero bytes without reading them. The cost does not depend on `len`.
    pub fn hole(&mut self, len: u64, out: &mut dyn FnMut(Cut)) {
        match &mut self.0 {
            Inner::Content(content) => content.hole(len, out),
            Inner::Plain(plain) => plain.hole(len, out),
        }
    }

    /// Ends the image and emits the remaining blocks.
    pub fn finish(self, out: &mut dyn FnMut(Cut)) {
        match self.0 {
            Inner::Content(content) => content.finish(out),
            Inner::Plain(plain) => plain.finish(out),
        }
    }
}
