//! The common interface of the splitters.

use std::ops::Range;

use super::content::Content;
use super::cut::Cut;
use super::lookup::Lookup;
use super::plain::Plain;
use super::rule::Rule;
use crate::error::Error;

/// Consumes an image from first byte to last and emits its blocks. Bytes in no cut's span are holes.
pub struct Splitter<'a>(Inner<'a>);

enum Inner<'a> {
    Content(Box<Content<'a>>),
    Plain(Plain),
}

impl<'a> Splitter<'a> {
    /// A splitter at the start of `image`.
    ///
    /// # Panics
    /// If [`Rule::Fixed`] has a size that [`Rule::fixed`] rejects.
    pub fn new(rule: Rule, image: &'a dyn Lookup) -> Self {
        Splitter(match rule {
            Rule::Content => Inner::Content(Box::new(Content::new(Some(image)))),
            Rule::Content1 => Inner::Content(Box::new(Content::new(None))),
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

    /// The next range of the image, at or behind `at`, whose bytes are cut already: it may be passed as a hole.
    pub fn elsewhere(&self, at: u64) -> Option<Range<u64>> {
        match &self.0 {
            Inner::Content(content) => content.elsewhere(at),
            Inner::Plain(_) => None,
        }
    }

    /// Ends the image and emits the remaining blocks.
    ///
    /// # Errors
    /// The image could not be read at another offset, so the cuts are wrong.
    pub fn finish(self, out: &mut dyn FnMut(Cut)) -> Result<(), Error> {
        match self.0 {
            Inner::Content(content) => content.finish(out),
            Inner::Plain(plain) => {
                plain.finish(out);
                Ok(())
            }
        }
    }
}
