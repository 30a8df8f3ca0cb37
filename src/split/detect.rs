//! `--split content`: looks at an image and picks the rule that suits it.
//!
//! `pages` loses everything where data is not aligned to 4096 bytes, `bytes` only something where it is. So `pages` is
//! picked when there is a sign of an aligned file system, and `bytes` in all other cases: ISO 9660 (whatever its
//! partition table pretends), squashfs, cpio, archives, file systems with smaller blocks or on a partition that begins
//! in the middle of a page, and the unknown. LVM and LUKS count as aligned: what is in them keeps its place in a page.

use super::rule::Rule;
use crate::disk::partitions::{Partition, partitions};
use crate::disk::superblock::{HEAD, ReadAt, Superblock, superblock};

/// The rule that suits an image of `size` bytes, if that is known. `read_at` fills a buffer from an offset in bytes, or
/// says `false` where it cannot: of a pipe, say, only the first MiB may be there. Fewer than 2,000 small reads, whatever
/// the tables say.
///
/// Among partitions the largest decides of which anything is known.
pub fn choose(size: Option<u64>, read_at: &mut dyn FnMut(u64, &mut [u8]) -> bool) -> Rule {
    if let Found::Suits(rule) = look(0, read_at) {
        return rule;
    }
    let inside = |partition: &Partition| partition.start < size.unwrap_or(u64::MAX);
    let known = partitions(read_at).into_iter().filter(inside);
    let suits = known.filter_map(|partition| Some((partition.len, suits(partition, read_at)?)));
    suits.max_by_key(|&(len, _)| len).map_or(Rule::Bytes, |(_, rule)| rule)
}

fn suits(partition: Partition, read_at: ReadAt) -> Option<Rule> {
    match look(partition.start, read_at) {
        Found::Suits(rule) => Some(rule),
        Found::Unreadable if partition.linux && partition.start.is_multiple_of(4096) => Some(Rule::Pages),
        Found::Unreadable | Found::Nothing => None,
    }
}

/// What `--split content` makes of a place in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Something this rule suits.
    Suits(Rule),
    /// Nothing known.
    Nothing,
    /// The place cannot be read here.
    Unreadable,
}

/// The rule that suits what begins at `start`, in bytes.
fn look(start: u64, read_at: ReadAt) -> Found {
    if !read_at(start, &mut [0; HEAD]) {
        return Found::Unreadable;
    }
    match superblock(start, read_at) {
        None => Found::Nothing,
        Some(Superblock { unit: Some(unit), .. }) if start.is_multiple_of(4096) && unit.is_multiple_of(4096) => {
            Found::Suits(Rule::Pages)
        }
        Some(_) => Found::Suits(Rule::Bytes),
    }
}
