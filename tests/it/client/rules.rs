//! The pure parts of the client: LRU eviction, and the readahead window.

use std::collections::HashSet;

use hfl::client::prefetch::window::ReadaheadWindow;
use hfl::client::source::lru::Lru;
use proptest::prelude::*;

use crate::support::fixture::Random;

#[derive(Debug, Clone)]
enum Step {
    Insert(u8, usize),
    Get(u8),
    Remove(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<u8>(), 1usize..60).prop_map(|(key, bytes)| Step::Insert(key % 24, bytes)),
        any::<u8>().prop_map(|key| Step::Get(key % 24)),
        any::<u8>().prop_map(|key| Step::Remove(key % 24)),
    ]
}

/// Model of the LRU: a list, oldest first.
#[derive(Debug, Default)]
struct Model(Vec<(u8, usize)>);

impl Model {
    fn bytes(&self) -> usize {
        self.0.iter().map(|(_, bytes)| bytes).sum()
    }

    fn take(&mut self, key: u8) -> Option<(u8, usize)> {
        let at = self.0.iter().position(|held| held.0 == key)?;
        Some(self.0.remove(at))
    }
}

proptest! {
    #[test]
    fn the_least_recently_used_goes_first(steps in prop::collection::vec(step(), 1..300), limit in 1usize..300) {
        let mut lru = Lru::<u8, usize>::new();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Insert(key, bytes) => {
                    let replaced = model.take(key);
                    model.0.push((key, bytes));
                    prop_assert_eq!(lru.insert(key, bytes, bytes), replaced.map(|held| held.1));
                    while model.bytes() > limit {
                        prop_assert_eq!(lru.oldest(), model.0.first().map(|(key, bytes)| (*key, bytes)));
                        prop_assert_eq!(lru.pop_oldest(), Some(model.0.remove(0)));
                    }
                }
                Step::Get(key) => {
                    let held = model.take(key);
                    prop_assert_eq!(lru.get(&key).copied(), held.map(|h| h.1));
                    model.0.extend(held);
                }
                Step::Remove(key) => {
                    prop_assert_eq!(lru.remove(&key), model.take(key).map(|h| h.1));
                }
            }
            prop_assert_eq!((lru.bytes(), lru.len(), lru.is_empty()), (model.bytes(), model.0.len(), model.0.is_empty()));
            for key in 0..24 {
                prop_assert_eq!(lru.contains(&key), model.0.iter().any(|h| h.0 == key));
            }
        }
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// An image without holes.
fn dense(from: u64, bytes: u64) -> u64 {
    from + bytes
}

#[test]
fn a_stream_is_read_ahead_of_without_gaps_and_up_to_the_window() {
    let mut readahead = ReadaheadWindow::new(8 * MIB);
    let (mut ahead, mut asked) = (0, 0);
    for read in 0..512 {
        let range = read * 128 * KIB..(read + 1) * 128 * KIB;
        if let Some(fetch) = readahead.read(&range, dense) {
            assert!(fetch.start >= ahead && (ahead == 0 || fetch.start == ahead), "no gap, nothing twice");
            assert!(range.end >= 2 * MIB, "nothing for a stream that may be short");
            let most = (8 * MIB).min(range.end / 2);
            assert!(fetch.end <= range.end + most, "never more than half of what was read");
            ahead = fetch.end;
            asked += 1;
        }
        if range.end >= 2 * MIB {
            let half = (8 * MIB).min(range.end / 2) / 2;
            assert!(ahead >= range.end + half, "half a window is left at read {read}");
        }
    }
    println!("{asked} decisions to fetch in 512 reads");
    assert!(asked < 40);
}

#[test]
fn random_reads_trigger_nothing() {
    let mut readahead = ReadaheadWindow::new(8 * MIB);
    let mut random = Random(11);
    for _ in 0..100_000 {
        let offset = random.below(2 << 18) * 4 * KIB;
        assert_eq!(readahead.read(&(offset..offset + 4 * KIB), dense), None);
    }
}

#[test]
fn several_streams_and_disorder_are_followed() {
    let mut readahead = ReadaheadWindow::new(4 * MIB);
    let mut fetched: HashSet<u64> = HashSet::new();
    for pair in 0..200 {
        for stream in 0..4 {
            let base = stream * 1024 * MIB;
            let order = if pair > 4 { [1, 0] } else { [0, 1] };
            for half in order {
                let start = base + (2 * pair + half) * 64 * KIB;
                if let Some(fetch) = readahead.read(&(start..start + 64 * KIB), dense) {
                    assert!(fetch.start >= base && fetch.end <= base + 1024 * MIB);
                    fetched.extend((fetch.start / (64 * KIB))..(fetch.end / (64 * KIB)));
                }
            }
        }
    }
    // The first two MiB of each stream are not predicted.
    let wanted = 4 * (400 - 32);
    assert!(fetched.len() >= wanted - 20, "{} of {wanted}", fetched.len());
}

#[test]
fn holes_cost_no_window() {
    let mut readahead = ReadaheadWindow::new(MIB);
    // From 4 MiB to 1 GiB is a hole.
    let advance = |from: u64, bytes: u64| {
        let stored = (4 * MIB).saturating_sub(from.min(4 * MIB));
        if bytes <= stored { from + bytes } else { from.max(1024 * MIB) + (bytes - stored) }
    };
    let mut end = 0;
    for read in 0..32 {
        let range = read * 128 * KIB..(read + 1) * 128 * KIB;
        end = readahead.read(&range, advance).map_or(end, |fetch| fetch.end);
    }
    assert!(end > 1024 * MIB, "fetches what lies behind the hole");
}
