//! Images of pages of every kind that `pages` distinguishes, and of some that it must not confuse with these.

use std::fmt;

use proptest::prelude::*;

pub use crate::support::lab::Random;

/// The bytes of an image. Its debug output is its length, because nobody reads megabytes.
#[derive(Clone)]
pub struct Image(pub Vec<u8>);

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image of {} bytes", self.0.len())
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Zero,
    Plain,
    Tail,
    DirectoryStart,
    DirectoryEnd,
    Inodes,
    NearlyInodes,
    /// Extents of a file: of 1024 bytes at the start, of 2048 in the second half.
    Extents,
    NearlyZero,
}

/// A page of noise without any pattern of zero bytes that a kind is recognised by.
fn noise(random: &mut Random) -> Vec<u8> {
    (0..512).flat_map(|_| (random.next() | 1).to_le_bytes()).collect()
}

/// A page of this kind, with random contents where the kind permits.
pub fn page(kind: Kind, random: &mut Random) -> Vec<u8> {
    let mut page = noise(random);
    match kind {
        Kind::Zero => page.fill(0),
        Kind::Plain => {}
        Kind::Tail => page[4000 - random.next() as usize % 1000..].fill(0),
        Kind::DirectoryStart => page[4..12].copy_from_slice(b"\x0c\0\x01\x02.\0\0\0"),
        Kind::DirectoryEnd => page[4084..4092].copy_from_slice(b"\0\0\0\0\x0c\0\0\xde"),
        Kind::Inodes => inodes(&mut page, 14 + random.next() as usize % 3),
        Kind::NearlyInodes => inodes(&mut page, 13),
        Kind::Extents => {
            page[..6].copy_from_slice(&[0x0a, 0xf3, 6, 0, 84, 0]);
            page[2048..2054].copy_from_slice(&[0x0a, 0xf3, 6, 0, 169, 0]);
        }
        Kind::NearlyZero => {
            page.fill(0);
            page[random.next() as usize % 4096] = 1;
        }
    }
    page
}

/// Turns the first `count` of 16 records into inodes. Every fourth of them is a free one.
fn inodes(page: &mut [u8], count: usize) {
    for (index, record) in page.chunks_mut(256).enumerate() {
        record[128..130].copy_from_slice(&[32, u8::from(index >= count)]);
        record[1] = [0x81, 0x41, 0xa1, 0x61][index % 4];
        if index % 4 == 3 && index < count {
            record[..128].fill(0);
            record[128] = 7;
        }
    }
}

/// The pages of these runs, with `missing` bytes cut off the end.
pub fn pages(runs: &[(Kind, usize)], missing: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let kinds = runs.iter().flat_map(|&(kind, count)| std::iter::repeat_n(kind, count));
    let mut image: Vec<u8> = kinds.flat_map(|kind| page(kind, &mut random)).collect();
    image.truncate(image.len() - missing.min(image.len()));
    image
}

/// An arbitrary image of up to about 2,000 pages, mostly far fewer.
pub fn image() -> impl Strategy<Value = Image> {
    let missing = prop_oneof![3 => Just(0), 2 => 1..4096usize, 1 => Just(4095)];
    (prop::collection::vec(run(), 0..60), missing, any::<u64>())
        .prop_map(|(runs, missing, seed)| Image(pages(&runs, missing, seed)))
}

fn run() -> impl Strategy<Value = (Kind, usize)> {
    prop_oneof![
        6 => (Just(Kind::Zero), 1..20usize),
        8 => (Just(Kind::Plain), 1..30usize),
        2 => (Just(Kind::Plain), 60..300usize),
        8 => (Just(Kind::Tail), 1..4usize),
        1 => (Just(Kind::Tail), 60..80usize),
        4 => (Just(Kind::DirectoryStart), 1..3usize),
        3 => (Just(Kind::DirectoryEnd), 1..3usize),
        2 => (Just(Kind::Inodes), 1..40usize),
        1 => (Just(Kind::Inodes), 100..150usize),
        1 => (Just(Kind::NearlyInodes), 1..3usize),
        2 => (Just(Kind::Extents), 1..3usize),
        2 => (Just(Kind::NearlyZero), 1..9usize),
    ]
}
