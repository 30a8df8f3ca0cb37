//! Which rule suits a file system; a part of `content 1`, and frozen with it.

use super::plain::Plain;
use super::rule::PageSize;
use crate::disk::superblock::{ReadAt, superblock};

/// A splitter that suits the file system at the start of a stretch, if one is recognized there.
///
/// `pages` needs data that is aligned to pages: with any other it finds no shared blocks, while `bytes` loses only some
/// with aligned data. LVM and LUKS count as aligned: their contents keep their position within a page.
pub(super) fn splitter_for(read_at: ReadAt) -> Option<Plain> {
    let superblock = superblock(0, read_at)?;
    Some(match superblock.unit {
        Some(1024) => Plain::pages(PageSize::OneKib),
        Some(2048) => Plain::pages(PageSize::TwoKib),
        Some(unit) if unit.is_multiple_of(4096) => Plain::pages(PageSize::FourKib),
        Some(_) | None => Plain::bytes(),
    })
}
