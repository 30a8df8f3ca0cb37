//! Classifies pages, and hashes them for boundaries that no class decides.
//!
//! A page has the size of the file system's blocks: 4096 bytes, or 1024 or 2048. Depends only on the page's bytes, not
//! on its position in the image. The signatures are those that ext4's tools write: a directory's first record (`.`), the
//! checksum record at the end of a directory page, and 256-byte inodes.

use xxhash_rust::xxh3::xxh3_64;

/// The usual page size in bytes.
pub(super) const PAGE: usize = 4096;

const INODE: usize = 256;
/// Size of the header of a block of extents, and of each of its entries.
const EXTENT: usize = 12;
const ZERO_END: usize = 32;
/// Of so many bytes of inodes, one may be neither used nor free.
const BYTES_PER_OTHER: usize = 2048;

/// The class of a page: the first that matches, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Every byte is zero.
    Zero,
    /// A page of an ext4 directory.
    Directory,
    /// A page of an ext4 inode table; of smaller pages also one with the extents of a file.
    Inodes,
    /// Another page that ends in 32 zero bytes: often the last page of a file.
    Tail,
    /// Any other page.
    Plain,
}

impl Class {
    #[inline]
    pub(super) fn of<const SIZE: usize>(page: &[u8; SIZE]) -> Class {
        if is_zero(page) {
            Class::Zero
        } else if is_directory(page) {
            Class::Directory
        } else if is_inodes(page) || SIZE < PAGE && is_extents(page) {
            Class::Inodes
        } else if is_zero(&page[SIZE - ZERO_END..]) {
            Class::Tail
        } else {
            Class::Plain
        }
    }
}

/// XXH3-64 of the page, seed 0, default secret.
pub(super) fn hash(page: &[u8]) -> u64 {
    xxh3_64(page)
}

/// Whether every byte is zero. Returns at the first 128-byte chunk that is not.
#[inline]
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some((chunk, behind)) = rest.split_first_chunk::<128>() {
        if chunk.as_chunks::<8>().0.iter().fold(0, |sum, word| sum | u64::from_ne_bytes(*word)) != 0 {
            return false;
        }
        rest = behind;
    }
    rest.iter().all(|&byte| byte == 0)
}

fn is_directory(page: &[u8]) -> bool {
    word(page, 4) == 0x0000_002e_0201_000c || word(page, page.len() - 12) == 0xde00_000c_0000_0000
}

fn word(page: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*page[at..].first_chunk().expect("within the page"))
}

/// All records but 2 of 16 (1 of 8, none of 4) look like used or free inodes, and at least one is used.
fn is_inodes(page: &[u8]) -> bool {
    let (mut used, mut other) = (0, 0);
    for record in page.chunks_exact(INODE) {
        if is_inode(record) {
            used += 1;
        } else if !is_zero(&record[..128]) {
            other += 1;
            if other > page.len() / BYTES_PER_OTHER {
                return false;
            }
        }
    }
    used >= 1
}

/// The header of a block of extents, which has as many entries as fit. They name places in the image, so they change
/// whenever anything before them grows. With smaller blocks ten times as many files need one.
fn is_extents(page: &[u8]) -> bool {
    let entries = (page.len() - EXTENT) / EXTENT;
    page.starts_with(&[0x0a, 0xf3]) && page[4..6] == (entries as u16).to_le_bytes()
}

/// A valid file type, and 32 bytes of extra fields.
fn is_inode(record: &[u8]) -> bool {
    matches!(record[1] >> 4, 1 | 2 | 4 | 6 | 8 | 10 | 12) && record[128] == 32 && record[129] == 0
}
