//! In which order blocks are moved within old content that is overwritten by that.
//!
//! A block can be read from its old place only until another one is written there. So a block is placed when nothing
//! that is still needed lies where it goes. Where blocks wait for each other, those in the way of one are saved in
//! memory first, up to a limit; what does not fit is given up, and has to be fetched. Pure: it decides, and moves nothing.

use std::collections::VecDeque;
use std::ops::Range;

/// A block to be moved.
#[derive(Debug, Clone)]
pub struct Move {
    /// Its size in bytes.
    pub bytes: u32,
    /// Where it lies.
    pub reads: Vec<Range<u64>>,
    /// Where it goes.
    pub writes: Vec<Range<u64>>,
}

/// A step; each names a move by its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Read the block, and keep it in memory.
    Save(u32),
    /// Write the block, from memory if it was saved, else from its old place; it is in memory no more.
    Place(u32),
    /// Its old place is about to be overwritten, and there is no room to save it.
    GiveUp(u32),
}

impl Step {
    /// The move whose block it needs: one to be read, unless it was saved.
    pub fn reads(self) -> Option<u32> {
        match self {
            Self::Save(number) | Self::Place(number) => Some(number),
            Self::GiveUp(_) => None,
        }
    }
}

/// The steps that move all blocks, with at most `memory_bytes` of saved blocks at any time. Places that are written
/// must not overlap each other.
pub fn plan(moves: &[Move], memory_bytes: u64) -> Vec<Step> {
    let mut plan = Plan::new(moves, memory_bytes);
    plan.count();
    while let Some(number) = plan.next() {
        plan.free_way(number);
        plan.place(number);
    }
    plan.steps
}

/// What has become of a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It lies at its old place.
    Old,
    /// It is in memory.
    Saved,
    /// It was placed or given up.
    Gone,
}

struct Plan<'a> {
    moves: &'a [Move],
    /// Ranges that are read, and those that are written, each with its move, ascending.
    reads: Vec<(Range<u64>, u32)>,
    writes: Vec<(Range<u64>, u32)>,
    states: Vec<State>,
    /// For each move: how many overlaps there are of its writes with reads of others that are still at their old place.
    blocked: Vec<u64>,
    /// Moves whose way is free.
    ready: Vec<u32>,
    saved: VecDeque<u32>,
    saved_bytes: u64,
    memory_bytes: u64,
    /// All moves before this one are gone or saved.
    next: u32,
    steps: Vec<Step>,
}

impl<'a> Plan<'a> {
    fn new(moves: &'a [Move], memory_bytes: u64) -> Self {
        let sorted = |ranges: fn(&Move) -> &[Range<u64>]| {
            let mut all: Vec<(Range<u64>, u32)> = Vec::new();
            for (number, each) in moves.iter().enumerate() {
                all.extend(ranges(each).iter().map(|range| (range.clone(), number as u32)));
            }
            all.sort_unstable_by_key(|(range, number)| (range.start, *number));
            all
        };
        Self {
            moves,
            reads: sorted(|each| &each.reads),
            writes: sorted(|each| &each.writes),
            states: vec![State::Old; moves.len()],
            blocked: vec![0; moves.len()],
            ready: Vec::new(),
            saved: VecDeque::new(),
            saved_bytes: 0,
            memory_bytes,
            next: 0,
            steps: Vec::new(),
        }
    }

    /// Counts who is in whose way.
    fn count(&mut self) {
        // Old places come from one pass over the old content and do not overlap. If some do, all but the first are given
        // up: the lookups need ranges whose ends ascend as their starts do.
        let mut end = 0;
        for (range, number) in &self.reads {
            if range.start < end && self.states[*number as usize] == State::Old {
                self.states[*number as usize] = State::Gone;
                self.steps.push(Step::GiveUp(*number));
            }
            end = end.max(range.end);
        }
        let states = &self.states;
        self.reads.retain(|(_, number)| states[*number as usize] == State::Old);
        for (range, number) in &self.writes {
            let others = overlapping(&self.reads, range).filter(|other| other != number);
            self.blocked[*number as usize] += others.count() as u64;
        }
        let is_free = |number: &u32| self.blocked[*number as usize] == 0;
        // From a stack, so the first ones are to be on top.
        self.ready = (0..self.moves.len() as u32).rev().filter(is_free).collect();
    }

    /// The next move to make: one whose way is free; else the one saved first; else the first one.
    fn next(&mut self) -> Option<u32> {
        let is_left = |number: &u32| self.states[*number as usize] != State::Gone;
        if let Some(number) = std::iter::from_fn(|| self.ready.pop()).find(is_left) {
            return Some(number);
        }
        if let Some(number) = std::iter::from_fn(|| self.saved.pop_front()).find(is_left) {
            return Some(number);
        }
        while self.states.get(self.next as usize).is_some_and(|state| *state != State::Old) {
            self.next += 1;
        }
        ((self.next as usize) < self.moves.len()).then_some(self.next)
    }

    /// Saves what lies where a block goes, or gives it up.
    fn free_way(&mut self, number: u32) {
        let moves = self.moves;
        for range in &moves[number as usize].writes {
            let in_way: Vec<u32> = overlapping(&self.reads, range).collect();
            for other in in_way {
                if other == number || self.states[other as usize] != State::Old {
                    continue;
                }
                let bytes = u64::from(moves[other as usize].bytes);
                if self.saved_bytes + bytes <= self.memory_bytes {
                    self.saved_bytes += bytes;
                    self.saved.push_back(other);
                    self.left_old_place(other, State::Saved, Step::Save(other));
                } else {
                    self.left_old_place(other, State::Gone, Step::GiveUp(other));
                }
            }
        }
    }

    fn place(&mut self, number: u32) {
        match self.states[number as usize] {
            State::Old => self.left_old_place(number, State::Gone, Step::Place(number)),
            State::Saved => {
                self.saved_bytes -= u64::from(self.moves[number as usize].bytes);
                self.states[number as usize] = State::Gone;
                self.steps.push(Step::Place(number));
            }
            State::Gone => {}
        }
    }

    /// Notes that the old place of a block is needed no more, which may free the way of others.
    fn left_old_place(&mut self, number: u32, state: State, step: Step) {
        self.states[number as usize] = state;
        self.steps.push(step);
        let moves = self.moves;
        for range in &moves[number as usize].reads {
            for waiting in overlapping(&self.writes, range).filter(|&waiting| waiting != number) {
                let blocked = &mut self.blocked[waiting as usize];
                *blocked -= 1;
                if *blocked == 0 {
                    self.ready.push(waiting);
                }
            }
        }
    }
}

/// The moves whose ranges overlap `range`, once for each range that does.
fn overlapping<'a>(ranges: &'a [(Range<u64>, u32)], range: &Range<u64>) -> impl Iterator<Item = u32> + use<'a> {
    let (start, end) = (range.start, range.end);
    let first = ranges.partition_point(|(other, _)| other.end <= start);
    ranges[first..].iter().take_while(move |(other, _)| other.start < end).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_range(range: Range<u64>) -> Vec<Range<u64>> {
        std::iter::once(range).collect()
    }

    /// A disk of numbered units: `to[i]` is where unit `i` goes, in pieces of `size`.
    fn moves(size: u64, to: &[u64]) -> Vec<Move> {
        let one = |(from, to): (usize, &u64)| Move {
            bytes: size as u32,
            reads: one_range(from as u64 * size..(from as u64 + 1) * size),
            writes: one_range(*to..to + size),
        };
        to.iter().enumerate().map(one).collect()
    }

    /// Carries out a plan on a disk that holds the number of each byte; returns how many blocks were given up, and the
    /// most bytes that were in memory.
    fn carry_out(moves: &[Move], disk_bytes: usize, memory_bytes: u64) -> (usize, u64) {
        let mut disk: Vec<usize> = (0..disk_bytes).collect();
        let old = |each: &Move| each.reads.iter().cloned().flatten().map(|at| at as usize).collect::<Vec<usize>>();
        let (mut held, mut most, mut given_up) = (std::collections::HashMap::new(), 0, Vec::new());
        let mut placed = vec![false; moves.len()];
        for step in plan(moves, memory_bytes) {
            match step {
                Step::Save(number) => {
                    let now: Vec<usize> = old(&moves[number as usize]).iter().map(|&at| disk[at]).collect();
                    assert_eq!(now, old(&moves[number as usize]), "saved too late");
                    assert!(held.insert(number, now).is_none());
                    most = most.max(held.values().map(Vec::len).sum());
                }
                Step::Place(number) => {
                    let each = &moves[number as usize];
                    let read = || old(each).iter().map(|&at| disk[at]).collect();
                    let bytes: Vec<usize> = held.remove(&number).unwrap_or_else(read);
                    assert_eq!(bytes, old(each), "placed too late");
                    each.writes.iter().cloned().flatten().zip(bytes).for_each(|(at, byte)| disk[at as usize] = byte);
                    assert!(!std::mem::replace(&mut placed[number as usize], true));
                }
                Step::GiveUp(number) => given_up.push(number),
            }
        }
        for (number, each) in moves.iter().enumerate() {
            let is_given_up = given_up.contains(&(number as u32));
            assert!(placed[number] != is_given_up, "each is placed or given up");
            let there: Vec<usize> = each.writes.iter().cloned().flatten().map(|at| disk[at as usize]).collect();
            assert!(is_given_up || there == old(each), "it lies where it goes in the end");
        }
        assert!(held.is_empty());
        (given_up.len(), most as u64)
    }

    #[test]
    fn a_swap_saves_one_block() {
        let swap = moves(10, &[10, 0]);
        assert_eq!(plan(&swap, 10), [Step::Save(1), Step::Place(0), Step::Place(1)]);
        assert_eq!(carry_out(&swap, 20, 10), (0, 10));
        assert_eq!(carry_out(&swap, 20, 9).0, 1, "without memory, one of them must be fetched");
    }

    #[test]
    fn what_moves_by_some_bytes_needs_no_memory() {
        let up: Vec<u64> = (0..100).map(|i| i * 10 + 7).collect();
        assert_eq!(carry_out(&moves(10, &up), 1100, 0), (0, 0));
        let down: Vec<u64> = (1..100).map(|i| i * 10 - 7).collect();
        let mut down = moves(10, &[&[0][..], &down].concat());
        down.remove(0);
        assert_eq!(carry_out(&down, 1000, 0), (0, 0));
    }

    #[test]
    fn any_order_ends_right_within_the_limit() {
        let mut state = 5_u64;
        let mut random = move |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        for round in 0..300 {
            let count = 1 + random(60) as usize;
            // The new order of the blocks, moved by a few bytes, some in two pieces.
            let mut order: Vec<usize> = (0..count).collect();
            (1..count).rev().for_each(|i| order.swap(i, random(i as u64 + 1) as usize));
            let (shift, size) = (random(15), 10);
            let mut all = moves(size, &vec![0; count]);
            for (place, &number) in order.iter().enumerate() {
                let start = place as u64 * size + shift;
                let cut = start + random(size);
                all[number].writes = vec![start..cut, cut..start + size];
                all[number].writes.retain(|range| !range.is_empty());
            }
            let memory = [0, 20, 100, 10_000][round % 4];
            let (given_up, most) = carry_out(&all, count * 10 + 20, memory);
            assert!(most <= memory && (memory < 10_000 || given_up == 0), "{given_up} {most}");
        }
    }

    #[test]
    fn old_places_that_overlap_are_given_up() {
        let mut two = moves(10, &[20, 30]);
        two[1].reads = one_range(5..15);
        assert_eq!(plan(&two, 100), [Step::GiveUp(1), Step::Place(0)]);
    }
}
