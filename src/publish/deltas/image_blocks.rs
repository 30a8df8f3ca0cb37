//! Some blocks of an image, read out of it.

use std::sync::Arc;

use crate::disk::input::Input;
use crate::format::block::BlockRow;
use crate::format::digest::Sha256;
use crate::publish::places::Places;

/// Some blocks of an image.
pub struct ImageBlocks {
    image: Arc<Input>,
    places: Arc<Places>,
    /// Their rows, and the number of each in `places`.
    rows: Vec<BlockRow>,
    numbers: Vec<u32>,
}

impl ImageBlocks {
    /// Those of the blocks of `image` for which `is_wanted` returns true. `rows` are all its blocks, which lie at
    /// `places`.
    pub fn new(
        image: Arc<Input>,
        rows: &[BlockRow],
        places: Arc<Places>,
        is_wanted: impl Fn(&BlockRow) -> bool,
    ) -> Self {
        let wanted = (0..).zip(rows).filter(|(_, row)| is_wanted(row));
        let (numbers, rows) = wanted.map(|(number, row)| (number, *row)).unzip();
        Self { image, places, rows, numbers }
    }

    /// The rows of these blocks, in the order of their numbers here.
    pub fn rows(&self) -> &[BlockRow] {
        &self.rows
    }

    /// The bytes of a block, verified; `None` if the image has other bytes there.
    pub fn read(&self, block: usize) -> Option<Vec<u8>> {
        self.read_unverified(block).filter(|bytes| Sha256::of(bytes) == self.rows[block].sha256)
    }

    /// The bytes that should be those of a block.
    pub fn read_unverified(&self, block: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; self.rows[block].bytes as usize];
        for run in self.places.cover(self.numbers[block]) {
            self.image.read_exact_at(run.at, &mut bytes[run.of_block()]).ok()?;
        }
        Some(bytes)
    }
}
