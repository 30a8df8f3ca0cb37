//! The difference of two versions, compared with a simple model.

use std::collections::BTreeMap;

use hfl::format::block::BlockRow;
use hfl::format::difference::{Cell, Difference, Tally};
use hfl::format::digest::{BlockId, Sha256};
use hfl::format::index::{ExtentSource, Header, Index};
use hfl::format::name::Version;
use hfl::format::time::Timestamp;
use hfl::split::Rule;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::format_fixtures::{hole, part};

/// An image of blocks, `None` for a hole. Equal numbers are equal contents; repeats are extents of the
/// same row.
fn index(contents: &[Option<u8>]) -> Index {
    let (mut blocks, mut extents, mut places) = (Vec::new(), Vec::new(), BTreeMap::new());
    for content in contents {
        let Some(content) = *content else {
            hole(512).push_to(&mut extents);
            continue;
        };
        let bytes = 1 + u32::from(content) * 3;
        let block = *places.entry(content).or_insert_with(|| {
            blocks.push(row(content, bytes));
            blocks.len() as u32 - 1
        });
        part(block, 0, bytes.into()).push_to(&mut extents);
    }
    let header = Header {
        image: "x".parse().expect("a name"),
        version: Version::FIRST,
        created: Timestamp::from_unix(0),
        size: extents.iter().map(|e| e.bytes).sum(),
        split: Rule::Bytes.into(),
        parent: None,
    };
    Index::new(header, blocks, extents).expect("an index")
}

fn row(content: u8, bytes: u32) -> BlockRow {
    let sha256 = Sha256::of(&[content]);
    BlockRow { id: BlockId(sha256.0[..20].try_into().expect("20 bytes")), sha256, bytes, zlib_bytes: bytes.div_ceil(2) }
}

fn tally<'a>(rows: impl Iterator<Item = &'a BlockRow>) -> Tally {
    let mut tally = Tally::default();
    rows.for_each(|row| tally.add(row));
    tally
}

fn has(index: &Index, row: &BlockRow) -> bool {
    index.blocks().iter().any(|b| (b.id, b.sha256) == (row.id, row.sha256))
}

/// Computes byte by byte what `Difference::map` computes extent by extent.
fn plain_map(old: &Index, new: &Index, cells: usize) -> Vec<Cell> {
    let mut map = vec![Cell::default(); cells.max(1)];
    let cell_bytes = new.size().div_ceil(map.len() as u64).max(1);
    let mut at = 0;
    for extent in new.extents() {
        for byte in at..at + extent.bytes {
            let cell = &mut map[(byte / cell_bytes) as usize];
            match extent.from {
                ExtentSource::Hole => cell.hole_bytes += 1,
                ExtentSource::Block { block, .. } if has(old, &new.blocks()[block as usize]) => cell.kept_bytes += 1,
                ExtentSource::Block { .. } => cell.changed_bytes += 1,
            }
        }
        at += extent.bytes;
    }
    map
}

fn contents() -> impl Strategy<Value = Vec<Option<u8>>> {
    vec(prop::option::weighted(0.8, 0..40u8), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_difference_is_the_plain_one(old in contents(), new in contents(), cells in 0..70usize) {
        let (old, new) = (index(&old), index(&new));
        let difference = Difference::between(&old, &new);
        prop_assert_eq!(difference.kept, tally(new.blocks().iter().filter(|row| has(&old, row))));
        prop_assert_eq!(difference.added, tally(new.blocks().iter().filter(|row| !has(&old, row))));
        prop_assert_eq!(difference.removed, tally(old.blocks().iter().filter(|row| !has(&new, row))));
        let map = difference.map(&new, cells);
        let sum: u64 = map.iter().map(|c| c.changed_bytes + c.kept_bytes + c.hole_bytes).sum();
        prop_assert_eq!(sum, new.size());
        prop_assert_eq!(map, plain_map(&old, &new, cells));
    }

    /// A typical update: a few places differ, the rest is in its old order.
    #[test]
    fn an_update_costs_what_changed(old in contents(), edits in vec((any::<prop::sample::Index>(), 40..200u8), 0..4)) {
        let mut new = old.clone();
        edits.iter().for_each(|(at, content)| new[at.index(old.len())] = Some(*content));
        let (old, new) = (index(&old), index(&new));
        let difference = Difference::between(&old, &new);
        prop_assert_eq!(difference.added, tally(new.blocks().iter().filter(|row| !has(&old, row))));
        prop_assert_eq!(difference.is_empty(), difference.added.blocks + difference.removed.blocks == 0);
        prop_assert!(Difference::between(&new, &new).is_empty());
    }
}

/// Two rows with the same SHA-1 and different contents are different blocks.
#[test]
fn a_collision_does_not_count_as_kept() {
    let old = index(&[Some(1), Some(2)]);
    let mut rows = old.blocks().to_vec();
    rows[1].sha256 = Sha256::of(b"other");
    let new = Index::new(old.header().clone(), rows, old.extents().to_vec()).expect("an index");
    let difference = Difference::between(&old, &new);
    assert_eq!((difference.kept.blocks, difference.added.blocks, difference.removed.blocks), (1, 1, 1));
}
