//! Which rule suits a file system; a part of `content 1`, and frozen with it.

use super::rule::{PageSize, Rule};
use crate::disk::superblock::{ReadAt, superblock};

/// The rule that suits the file system at the start of a stretch, if one is recognized there.
///
/// `pages` needs data that is aligned to pages: with any other it finds no shared blocks, while `bytes` loses only some
/// with aligned data. LVM and LUKS count as aligned: their contents keep their position within a page.
pub(super) fn rule_for(read_at: ReadAt) -> Option<Rule> {
    let superblock = superblock(0, read_at)?;
    Some(match superblock.unit {
        Some(1024) => Rule::Pages(PageSize::OneKib),
        Some(2048) => Rule::Pages(PageSize::TwoKib),
        Some(unit) if unit.is_multiple_of(4096) => Rule::PAGES,
        Some(_) | None => Rule::Bytes,
    })
}
