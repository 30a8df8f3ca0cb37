//! Updates: they read back as written, and what breaks a rule is refused with its line.

use std::collections::HashSet;

use hfl::format::block::BlockRow;
use hfl::format::digest::{BlockId, Sha256};
use hfl::format::name::Version;
use hfl::format::update::{Bases, DeltaRow, Update};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::format::roundtrip::a_name;
use crate::support::format_fixtures::{above_end, all_as_expected, edited, refusal, with_end};

const ABOVE: &str = "HFL-UPDATE 1\nimage debian-ps3\nversion 42\nfrom 41\nbases 2\ndeltas 2\n--\n\
    1f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a 1f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a1f3ad0c9f3ad0c9f3ad0c9f3 262144 4000\n\
    2f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a 2f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a1f3ad0c9f3ad0c9f3ad0c9f3 4194304 4000\n\
    --\n\
    3f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a 100 3f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a1f3ad0c9f3ad0c9f3ad0c9f3 0\n\
    4f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a 7 4f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a1f3ad0c9f3ad0c9f3ad0c9f3 1\n";

type Pick = prop::sample::Index;

fn an_update() -> impl Strategy<Value = Update> {
    let base = (any::<[u8; 20]>(), any::<[u8; 32]>(), 1..=1u32 << 20);
    let delta = (any::<[u8; 20]>(), any::<[u8; 32]>(), 1..=1u32 << 20, any::<Pick>(), any::<Pick>());
    let versions = (1..1000u64, 1..1000u64);
    (a_name(), versions, vec(base, 1..20), vec(delta, 0..40)).prop_map(|(image, versions, pool, mut rows)| {
        rows.sort_by_key(|row| row.0);
        rows.dedup_by_key(|row| row.0);
        let (mut bases, mut deltas): (Vec<BlockRow>, Vec<DeltaRow>) = Default::default();
        let mut names = HashSet::new();
        let pool: Vec<_> = pool.into_iter().filter(|base| names.insert(base.0)).collect();
        for (id, sha256, bytes, first, second) in rows.into_iter().filter(|row| !names.contains(&row.0)) {
            let mut place = |pick: Pick| {
                let (id, sha256, bytes) = pool[pick.index(pool.len())];
                let row = BlockRow { id: BlockId(id), sha256: Sha256(sha256), bytes, zlib_bytes: bytes };
                bases.iter().position(|base| base.id == row.id).unwrap_or_else(|| {
                    bases.push(row);
                    bases.len() - 1
                }) as u32
            };
            let first = place(first);
            let used = match place(second) {
                second if second == first => Bases::One(first),
                second => Bases::Two(first, second),
            };
            deltas.push(DeltaRow { id: BlockId(id), bytes, sha256: Sha256(sha256), bases: used });
        }
        let version = |number| Version::new(number).expect("a version");
        let versions = (version(versions.0), version(versions.0 + versions.1));
        Update::new(image, versions, bases, deltas).expect("an update")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_update_reads_back_as_it_was_written(update in an_update()) {
        let file = update.to_bytes();
        prop_assert!(file.is_ascii());
        let read = Update::parse(&file);
        prop_assert_eq!(read.as_ref(), Ok(&update));
        let (row, bytes) = update.to_file();
        prop_assert_eq!(row.path.update_of(update.image()), Some((update.from(), update.version())));
        prop_assert!(row.path.belongs_to(update.image(), update.from()));
        prop_assert!(row.path.belongs_to(update.image(), update.version()));
        prop_assert!(row.path.is_immutable());
        prop_assert_eq!((row.bytes, row.sha256, &bytes), (file.len() as u64, Sha256::of(&file), &file));
        for delta in update.deltas() {
            prop_assert_eq!(update.delta(&delta.id), Some(delta));
            prop_assert!((1..=2).contains(&update.bases_of(delta).count()));
        }
        prop_assert_eq!(update.delta(&BlockId([7; 20])), None);
    }

    #[test]
    fn what_is_accepted_is_written_alike(update in an_update(), at in any::<Pick>(), byte in any::<u8>()) {
        let mut above = above_end(&update.to_bytes()).to_vec();
        let at = at.index(above.len());
        above[at] = byte;
        let file = with_end(above);
        if let Ok(read) = Update::parse(&file) {
            prop_assert_eq!(read.to_bytes(), file);
        }
    }
}

#[test]
fn what_breaks_a_rule_is_refused() {
    assert_eq!(Update::parse(&with_end(ABOVE)).map(|update| update.to_bytes()), Ok(with_end(ABOVE)));
    let first = "3f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a 100";
    let cases = [
        ("from 41", "from 42", "from version 42 to 42: only to a later one"),
        ("bases 2", "bases 3", "line 10: 3 bases announced, 2 found"),
        ("bases 2", "bases 524289", "line 5, column 7: bases is outside the limits, 0 to 524288"),
        ("deltas 2", "deltas 262144", "line 6, column 14: 262144 deltas announced, the file is too short for them"),
        ("deltas 2", "deltas 1", "line 12: 1 deltas announced, 2 found"),
        (" 262144 4000", " 262144 0", "line 8, column 114: the bytes of its file is outside the limits, 1 to 262464"),
        (
            "2f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a 2f",
            "1f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a 2f",
            "line 9: base 1f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a is listed twice",
        ),
        (
            first,
            "5f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a 100",
            "line 12: the deltas must be sorted by the names of their blocks, each once",
        ),
        (
            first,
            "4f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a 100",
            "line 12: the deltas must be sorted by the names of their blocks, each once",
        ),
        (first, "1f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a 100", "line 11: a delta of a block on itself"),
        (
            first,
            "3f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a 0",
            "line 11, column 42: the bytes of the delta is outside the limits, 1 to 4198464",
        ),
        ("f3 0\n", "f3 1\n", "line 11: the bases must stand in the order in which deltas first name them"),
        ("f3 0\n", "f3 0 0\n", "line 11: both bases are the same"),
        ("f3 0\n", "f3 0 1\n", "line 11: its bases have more than 4194304 bytes"),
        ("f3 0\n", "f3 0 \n", "line 11, column 113: expected a base, a decimal number"),
        ("f3 1\n", "f3 0\n", "line 9: no delta uses base 2f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a"),
        ("f3 1\n", "f3 2\n", "line 12: the bases must stand in the order in which deltas first name them"),
        ("HFL-UPDATE 1", "HFL-UPDATE 2", "line 1: format 2, this hfl reads 1; update hfl"),
    ];
    let said = |from, to| refusal(Update::parse(&with_end(edited(ABOVE, from, to))));
    all_as_expected(cases.map(|(from, to, expected)| ((from, to), said(from, to), expected.to_owned())));
}
