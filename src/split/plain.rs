//! The splitters of the rules that cut a whole stretch alike.

use super::bytes::Bytes;
use super::clusters::Clusters;
use super::cut::Cut;
use super::fixed::Fixed;
use super::gear::{COARSE, FINE};
use super::holes::Holes;
use super::pages::Pages;
use super::rule::PageSize;
use super::unit::Codec;
use super::units::Units;

/// A splitter of one rule.
pub(super) enum Plain {
    Fixed(Fixed),
    Pages1K(Box<Pages<1024>>),
    Pages2K(Box<Pages<2048>>),
    Pages4K(Box<Pages<4096>>),
    Bytes(Box<Holes<Bytes>>),
    Units(Box<Holes<Units>>),
    Clusters(Box<Holes<Clusters>>),
}

/// Calls the same method of whichever splitter it is.
macro_rules! each {
    ($plain:expr, $splitter:ident => $call:expr) => {
        match $plain {
            Plain::Fixed($splitter) => $call,
            Plain::Pages1K($splitter) => $call,
            Plain::Pages2K($splitter) => $call,
            Plain::Pages4K($splitter) => $call,
            Plain::Bytes($splitter) => $call,
            Plain::Units($splitter) => $call,
            Plain::Clusters($splitter) => $call,
        }
    };
}

impl Plain {
    pub(super) fn fixed(bytes: u32) -> Plain {
        Plain::Fixed(Fixed::new(bytes))
    }

    pub(super) fn pages(size: PageSize) -> Plain {
        match size {
            PageSize::OneKib => Plain::Pages1K(Box::default()),
            PageSize::TwoKib => Plain::Pages2K(Box::default()),
            PageSize::FourKib => Plain::Pages4K(Box::default()),
        }
    }

    pub(super) fn bytes() -> Plain {
        Plain::Bytes(Box::new(Holes::new(Bytes::new(&COARSE))))
    }

    pub(super) fn fine_bytes() -> Plain {
        Plain::Bytes(Box::new(Holes::new(Bytes::new(&FINE))))
    }

    /// The compressed units of a squashfs with blocks of `full` bytes.
    pub(super) fn units(codec: Codec, full: usize) -> Plain {
        Plain::Units(Box::new(Holes::new(Units::new(codec, full))))
    }

    /// The compressed clusters of an EROFS.
    pub(super) fn clusters() -> Plain {
        Plain::Clusters(Box::default())
    }

    pub(super) fn data(&mut self, bytes: &[u8], out: &mut dyn FnMut(Cut)) {
        each!(self, splitter => splitter.data(bytes, out));
    }

    pub(super) fn hole(&mut self, len: u64, out: &mut dyn FnMut(Cut)) {
        each!(self, splitter => splitter.hole(len, out));
    }

    pub(super) fn finish(self, out: &mut dyn FnMut(Cut)) {
        each!(self, splitter => splitter.finish(out));
    }
}
