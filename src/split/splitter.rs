//! The common interface of the splitters.

use super::bytes::Bytes;
use super::content::Content;
use super::cut::Cut;
use super::fixed::Fixed;
use super::pages::Pages;
use super::rule::{PageSize, Rule};

/// Consumes an image from first byte to last and emits its blocks. Bytes in no cut's span are holes.
pub struct Splitter(Inner);

enum Inner {
    Content(Box<Content>),
    Fixed(Fixed),
    Pages1K(Box<Pages<1024>>),
    Pages2K(Box<Pages<2048>>),
    Pages4K(Box<Pages<4096>>),
    Bytes(Box<Bytes>),
}

/// Calls the same method of whichever splitter it is.
macro_rules! each {
    ($inner:expr, $splitter:ident => $call:expr) => {
        match $inner {
            Inner::Content($splitter) => $call,
            Inner::Fixed($splitter) => $call,
            Inner::Pages1K($splitter) => $call,
            Inner::Pages2K($splitter) => $call,
            Inner::Pages4K($splitter) => $call,
            Inner::Bytes($splitter) => $call,
        }
    };
}

impl Splitter {
    /// A splitter at the start of an image.
    ///
    /// # Panics
    /// If [`Rule::Fixed`] has a size that [`Rule::fixed`] rejects.
    pub fn new(rule: Rule) -> Splitter {
        Splitter(match rule {
            Rule::Content => Inner::Content(Box::default()),
            Rule::Fixed(bytes) => Inner::Fixed(Fixed::new(bytes)),
            Rule::Pages(PageSize::OneKib) => Inner::Pages1K(Box::default()),
            Rule::Pages(PageSize::TwoKib) => Inner::Pages2K(Box::default()),
            Rule::Pages(PageSize::FourKib) => Inner::Pages4K(Box::default()),
            Rule::Bytes => Inner::Bytes(Box::default()),
        })
    }

    /// Consumes the next bytes of the image, in pieces of any length.
    pub fn data(&mut self, bytes: &[u8], out: &mut dyn FnMut(Cut)) {
        each!(&mut self.0, splitter => splitter.data(bytes, out));
    }

    /// Consumes `len` zero bytes without reading them. The cost does not depend on `len`.
    pub fn hole(&mut self, len: u64, out: &mut dyn FnMut(Cut)) {
        each!(&mut self.0, splitter => splitter.hole(len, out));
    }

    /// Ends the image and emits the remaining blocks.
    pub fn finish(self, out: &mut dyn FnMut(Cut)) {
        each!(self.0, splitter => splitter.finish(out));
    }
}
