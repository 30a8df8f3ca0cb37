//! Image reads compared with a simple model: the bytes themselves.

use std::sync::Arc;

use async_trait::async_trait;
use hfl::client::extent_map::{ExtentMap, Segment};
use hfl::client::image::Image;
use hfl::client::source::memory_cache::{MemoryCache, MemoryCached};
use hfl::format::block::BlockRow;
use hfl::format::block::{Block, digests};
use hfl::format::index::{Extent, ExtentSource, Header, Index};
use hfl::repo::{BlockSource, Fetched, ReadError};
use hfl::split::Rule;
use proptest::prelude::*;

/// A piece of an image: a hole, or a part of one of a few blocks.
#[derive(Debug, Clone)]
enum Piece {
    Hole(u64),
    Part { block: usize, from: usize, bytes: usize },
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        (1u64..9000).prop_map(Piece::Hole),
        (0usize..6, 0usize..4000, 1usize..5000).prop_map(|(block, from, bytes)| Piece::Part { block, from, bytes }),
    ]
}

/// Contents of a block; each block's are unique.
fn contents(number: usize) -> Vec<u8> {
    let mut random = crate::support::fixture::Random(number as u64 * 77 + 1);
    (0..4096 + number * 700).map(|_| random.next() as u8).collect()
}

/// An image under construction.
#[derive(Debug, Default)]
struct Model {
    /// The bytes of the image.
    bytes: Vec<u8>,
    extents: Vec<Extent>,
    blocks: Vec<(usize, BlockRow, Arc<Block>)>,
}

impl Model {
    /// Appends the pieces, then every used block once in full, because an index requires that.
    fn new(pieces: &[Piece]) -> Self {
        let mut model = Self::default();
        pieces.iter().for_each(|piece| model.push(piece));
        for block in model.blocks.iter().map(|b| b.0).collect::<Vec<_>>() {
            model.push(&Piece::Part { block, from: 0, bytes: usize::MAX });
        }
        model
    }

    fn push(&mut self, piece: &Piece) {
        let (bytes, from) = match *piece {
            Piece::Hole(bytes) => {
                self.bytes.resize(self.bytes.len() + bytes as usize, 0);
                (bytes, ExtentSource::Hole)
            }
            Piece::Part { block, from, bytes } => {
                let whole = contents(block);
                let part = &whole[from..from.saturating_add(bytes).min(whole.len())];
                self.bytes.extend_from_slice(part);
                (part.len() as u64, ExtentSource::Block { block: self.place(block, &whole), offset: from as u32 })
            }
        };
        Extent { bytes, from }.push_to(&mut self.extents);
    }

    fn place(&mut self, number: usize, whole: &[u8]) -> u32 {
        if let Some(place) = self.blocks.iter().position(|b| b.0 == number) {
            return place as u32;
        }
        let (id, sha256) = digests(whole);
        let row = BlockRow { id, sha256, bytes: whole.len() as u32, zlib_bytes: 100 };
        self.blocks.push((number, row, Arc::new(Block::of(whole.to_vec()).1)));
        self.blocks.len() as u32 - 1
    }

    fn map(&self) -> ExtentMap {
        let header = Header {
            image: "test".parse().unwrap(),
            version: hfl::format::name::Version::FIRST,
            created: hfl::format::time::Timestamp::from_unix(0),
            size: self.bytes.len() as u64,
            split: Rule::PAGES.into(),
            parent: None,
        };
        let rows = self.blocks.iter().map(|b| b.1).collect();
        ExtentMap::new(Arc::new(Index::new(header, rows, self.extents.clone()).unwrap()))
    }
}

#[async_trait]
impl BlockSource for Model {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        let found = self.blocks.iter().find(|(_, held, _)| held.id == row.id);
        found.map(|(_, _, block)| Arc::clone(block).into()).ok_or_else(ReadError::no_source)
    }
}

/// Reads `bytes` at `offset`, first from the cache and then for real, and compares the two.
async fn read(image: &Image, offset: u64, bytes: usize) -> Vec<u8> {
    let range = image.range(offset, bytes);
    let early = image.cached(range.clone()).map(|data| data.with(<[u8]>::to_vec));
    let read = image.read(range).await.unwrap().with(<[u8]>::to_vec);
    assert!(early.is_none_or(|early| early == read));
    read
}

proptest! {
    #[test]
    fn a_read_gives_the_bytes_of_the_image(
        pieces in prop::collection::vec(piece(), 1..40),
        reads in prop::collection::vec((0u64..200_000, 0usize..70_000), 1..40),
        memory in 1usize..40_000,
    ) {
        let model = Model::new(&pieces);
        let (map, bytes) = (model.map(), model.bytes.clone());
        let cache = Arc::new(MemoryCache::new(memory));
        let image = Image::new(map, Arc::clone(&cache), Arc::new(MemoryCached::new(cache, model)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (offset, length) in reads {
            let start = (offset as usize).min(bytes.len());
            let end = (start + length).min(bytes.len());
            prop_assert_eq!(runtime.block_on(read(&image, offset, length)), &bytes[start..end]);
        }
    }

    #[test]
    fn advancing_counts_stored_bytes_alone(pieces in prop::collection::vec(piece(), 1..40), from in 0u64..100_000, bytes in 0u64..50_000) {
        let model = Model::new(&pieces);
        let map = model.map();
        let from = from.min(map.size());
        let to = map.advance(from, bytes, usize::MAX);
        let stored: usize = map.segments(from..to).map(|s| match s {
            Segment::Block { bytes, .. } => bytes,
            Segment::Hole { .. } => 0,
        }).sum();
        prop_assert!(stored as u64 == bytes || (to == map.size() && (stored as u64) < bytes));
    }

    #[test]
    fn holes_and_data_are_found(pieces in prop::collection::vec(piece(), 1..40), from in 0u64..100_000) {
        let model = Model::new(&pieces);
        let map = model.map();
        let from = from.min(map.size() - 1);
        let mut is_data = Vec::new();
        for segment in map.segments(from..map.size()) {
            let (bytes, data) = match segment {
                Segment::Block { bytes, .. } => (bytes, true),
                Segment::Hole { bytes } => (bytes, false),
            };
            is_data.resize(is_data.len() + bytes, data);
        }
        for data in [true, false] {
            let first = is_data.iter().position(|&d| d == data).unwrap_or(is_data.len());
            prop_assert_eq!(map.seek(from, data), from + first as u64);
        }
    }
}
