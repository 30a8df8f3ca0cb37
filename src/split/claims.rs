//! The parts of a stretch that belong to files, and are therefore not cut in the order of the image.

use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges that do not overlap: the end of each, by its start.
#[derive(Default)]
pub(super) struct Claims(BTreeMap<u64, u64>);

impl Claims {
    /// Adds a range; returns the parts of it that no earlier one has, in order.
    pub(super) fn add(&mut self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut merged = range.clone();
        // Ranges that only touch are merged too.
        let first = self.0.range(..=range.start).next_back().filter(|&(_, &end)| end >= range.start);
        let from = first.map_or(range.start, |(&start, _)| start);
        let inside: Vec<(u64, u64)> = self.0.range(from..=range.end).map(|(&start, &end)| (start, end)).collect();
        let (mut new, mut at) = (Vec::new(), range.start);
        for (start, end) in inside {
            if at < start {
                new.push(at..start);
            }
            at = at.max(end);
            merged = merged.start.min(start)..merged.end.max(end);
            self.0.remove(&start);
        }
        if at < range.end {
            new.push(at..range.end);
        }
        if merged.start < merged.end {
            self.0.insert(merged.start, merged.end);
        }
        new
    }

    /// Whether what begins at `at` belongs to a file, and how far that goes, at most `len`.
    pub(super) fn run(&self, at: u64, len: u64) -> (bool, u64) {
        match self.next(at) {
            Some(next) if next.start <= at => (true, len.min(next.end - at)),
            Some(next) => (false, len.min(next.start - at)),
            None => (false, len),
        }
    }

    /// The first range that ends behind `at`.
    pub(super) fn next(&self, at: u64) -> Option<Range<u64>> {
        let here = self.0.range(..=at).next_back().filter(|&(_, &end)| end > at);
        here.or_else(|| self.0.range(at..).next()).map(|(&start, &end)| start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_claimed_twice_counts_once() {
        let mut claims = Claims::default();
        let one = |range| Vec::from_iter([range]);
        assert_eq!(claims.add(10..20), one(10..20));
        assert_eq!(claims.add(30..40), one(30..40));
        assert_eq!(claims.add(20..25), one(20..25), "beside it");
        assert_eq!(claims.add(5..35), [5..10, 25..30]);
        assert_eq!(claims.add(0..0), []);
        assert_eq!(claims.add(8..38), []);
        assert_eq!((claims.run(0, 100), claims.run(5, 100), claims.run(39, 100)), ((false, 5), (true, 35), (true, 1)));
        assert_eq!((claims.run(40, 100), claims.next(40)), ((false, 100), None));
    }

    #[test]
    fn any_order_gives_what_a_list_of_bytes_gives() {
        let mut state = 7_u64;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % limit
        };
        for _ in 0..200 {
            let (mut claims, mut bytes) = (Claims::default(), [false; 100]);
            for _ in 0..20 {
                let start = below(90);
                let range = start..start + below(10);
                let new: Vec<u64> = claims.add(range.clone()).into_iter().flatten().collect();
                assert_eq!(new, range.clone().filter(|&at| !bytes[at as usize]).collect::<Vec<_>>());
                range.for_each(|at| bytes[at as usize] = true);
            }
            (0..100).for_each(|at| assert_eq!(claims.run(at, 1).0, bytes[at as usize]));
        }
    }
}
