//! `--split content`: detects which rule suits an image.
//!
//! With data not aligned to 4096 bytes `pages` loses all deduplication; with aligned data `bytes` loses only some. So
//! `pages` needs evidence of an aligned file system. All else gets `bytes`: ISO 9660 (whatever its partition table
//! claims), squashfs, cpio, archives, file systems with smaller blocks or on a partition not aligned to pages, and
//! anything unknown. LVM and LUKS count as aligned: their contents keep their position within a page.

use super::rule::Rule;
use crate::disk::partitions::{Partition, partitions};
use crate::disk::superblock::{HEAD, ReadAt, Superblock, superblock};

/// The rule that suits an image of `size` bytes, if the size is known. `read_at` fills a buffer from an offset in
/// bytes, or returns `false` where it cannot: of a pipe, for example, only the first MiB may be available. Makes fewer
/// than 2,000 small reads, whatever the partition tables contain.
///
/// Of the recognized partitions, the largest decides.
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

/// The detection result for one position in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Recognized data that this rule suits.
    Suits(Rule),
    /// Nothing recognized.
    Nothing,
    /// The position cannot be read.
    Unreadable,
}

/// The rule that suits the data at `start`, in bytes.
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
