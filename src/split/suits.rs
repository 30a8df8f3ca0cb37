//! Which rule suits a file system; a part of `content 1`, and frozen with it.

use super::plain::Plain;
use super::rule::PageSize;
use super::unit::{Codec, UNIT_MAX_BYTES};
use crate::disk::superblock::{Packing, Superblock};

/// A splitter that suits the file system with this superblock.
///
/// `pages` needs data that is aligned to pages: with any other it finds no shared blocks, while `bytes` loses only some
/// with aligned data. LVM and LUKS count as aligned: their contents keep their position within a page.
pub(super) fn splitter_of(superblock: &Superblock) -> Plain {
    match superblock.packing {
        Packing::Aligned(1024) => Plain::pages(PageSize::OneKib),
        Packing::Aligned(2048) => Plain::pages(PageSize::TwoKib),
        Packing::Aligned(unit) if unit.is_multiple_of(4096) => Plain::pages(PageSize::FourKib),
        Packing::Aligned(_) | Packing::Bytes => Plain::bytes(),
        Packing::Clusters => Plain::clusters(),
        Packing::Compressed => Plain::fine_bytes(),
        Packing::Squashfs { compression, block_bytes } => match Codec::of_squashfs(compression) {
            Some(codec) if (4096..=UNIT_MAX_BYTES as u64).contains(&block_bytes) => {
                Plain::units(codec, block_bytes as usize)
            }
            _ => Plain::fine_bytes(),
        },
    }
}
