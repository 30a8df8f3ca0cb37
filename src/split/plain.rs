//! The splitters of the rules that cut a whole stretch alike.

use std::ops::Range;

use super::bytes::Bytes;
use super::clusters::Clusters;
use super::cut::Cut;
use super::ext::Ext;
use super::files;
use super::fixed::Fixed;
use super::gear::{COARSE, FINE};
use super::holes::Holes;
use super::lookup::Stretch;
use super::pages::Pages;
use super::rule::PageSize;
use super::unit::Codec;
use super::units::Units;
use crate::error::Error;

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

    /// The same for a stretch that begins with `head`; the files of an ext4 in it are cut at once.
    ///
    /// # Errors
    /// A failed read; the user cancelled.
    pub(super) fn with_files(
        self,
        stretch: Stretch<'_>,
        head: &[u8],
        out: &mut dyn FnMut(Cut),
    ) -> Result<Plain, Error> {
        Ok(match self {
            Plain::Pages1K(_) => Plain::Pages1K(without_files(stretch, head, out)?),
            Plain::Pages2K(_) => Plain::Pages2K(without_files(stretch, head, out)?),
            Plain::Pages4K(_) => Plain::Pages4K(without_files(stretch, head, out)?),
            other => other,
        })
    }

    /// The next bytes, behind `at`, that need not be passed: they are cut already.
    pub(super) fn elsewhere(&self, at: u64) -> Option<Range<u64>> {
        match self {
            Plain::Pages1K(pages) => pages.elsewhere(at),
            Plain::Pages2K(pages) => pages.elsewhere(at),
            Plain::Pages4K(pages) => pages.elsewhere(at),
            _ => None,
        }
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

/// A splitter for what the files of the file system leave of the stretch.
fn without_files<const SIZE: usize>(
    stretch: Stretch<'_>,
    head: &[u8],
    out: &mut dyn FnMut(Cut),
) -> Result<Box<Pages<SIZE>>, Error> {
    let ext = Ext::open(stretch, head, SIZE as u64);
    let elsewhere = ext.map(|ext| files::cut::<SIZE>(ext, stretch, out)).transpose()?;
    Ok(Box::new(Pages::without(elsewhere.unwrap_or_default())))
}
