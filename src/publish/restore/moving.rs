//! Moves blocks within the old content of the output.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::each::each;
use super::moves::{Move, Step, plan};
use super::old_content::Found;
use super::work::Work;
use crate::error::Error;
use crate::format::digest::Sha256;
use crate::progress::{Origin, Phase};

/// Memory for blocks whose old place is overwritten before they can be written, in bytes.
const MEMORY_BYTES: u64 = 64 << 20;
/// Memory for blocks that are read, and then written, side by side, in bytes.
const BATCH_BYTES: u64 = 16 << 20;

/// Moves the blocks that were found. What cannot be read any more stays missing.
///
/// # Errors
/// A failed write; the user cancelled.
pub fn move_found(work: &Work, found: Found, jobs: usize) -> Result<(), Error> {
    if found.is_empty() {
        return Ok(());
    }
    work.enter(Phase::Move);
    let mut found: Vec<(u32, Vec<Range<u64>>)> = found.into_iter().collect();
    found.sort_unstable_by_key(|(block, _)| *block);
    let blocks: Vec<u32> = found.iter().map(|(block, _)| *block).collect();
    let moves: Vec<Move> = found.into_iter().map(|(block, reads)| as_move(work, block, reads)).collect();
    let mut mover = Mover { work, jobs, blocks: &blocks, moves: &moves, saved: HashMap::new() };
    let steps = plan(&moves, MEMORY_BYTES);
    steps.chunk_by(batches(&moves)).try_for_each(|batch| mover.carry_out(batch))
}

/// Tells whether a step belongs to the batch of the one before.
fn batches(moves: &[Move]) -> impl FnMut(&Step, &Step) -> bool + '_ {
    let mut bytes = 0;
    move |_, next| {
        let (Step::Save(number) | Step::Place(number) | Step::GiveUp(number)) = *next;
        bytes += u64::from(moves[number as usize].bytes);
        let fits = bytes <= BATCH_BYTES;
        bytes = if fits { bytes } else { 0 };
        fits
    }
}

/// Carries out a plan.
struct Mover<'a> {
    work: &'a Work,
    jobs: usize,
    blocks: &'a [u32],
    moves: &'a [Move],
    /// What was read and is not written yet, by the numbers of its moves.
    saved: HashMap<u32, Vec<u8>>,
}

impl Mover<'_> {
    /// Carries out some steps: first reads all that they read, then writes all that they write.
    ///
    /// What a step reads is at its old place until then, so it may be read earlier; and no later step reads what these
    /// write over.
    fn carry_out(&mut self, steps: &[Step]) -> Result<(), Error> {
        let is_saved = |number: &u32| self.saved.contains_key(number);
        let mut numbers: Vec<u32> = steps.iter().filter_map(|step| step.reads()).filter(|n| !is_saved(n)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let read = Mutex::new(HashMap::new());
        each(self.work, self.jobs, &numbers, |&number, _| {
            let bytes = old_block(self.work, self.blocks[number as usize], &self.moves[number as usize]);
            if let Some(bytes) = bytes {
                read.lock().unwrap_or_else(PoisonError::into_inner).insert(number, bytes);
            }
            Ok(())
        })?;
        self.saved.extend(read.into_inner().unwrap_or_else(PoisonError::into_inner));
        let placed = steps.iter().filter_map(|step| match step {
            Step::Place(number) => Some((self.blocks[*number as usize], self.saved.remove(number)?)),
            _ => None,
        });
        let placed: Vec<(u32, Vec<u8>)> = placed.collect();
        let place = |(block, bytes): &(u32, Vec<u8>), _: &mut Vec<u8>| self.work.write(*block, bytes, Origin::Moved);
        each(self.work, self.jobs, &placed, |item, buffer| place(item, buffer).map(drop))
    }
}

fn as_move(work: &Work, block: u32, reads: Vec<Range<u64>>) -> Move {
    let mut writes: Vec<Range<u64>> =
        work.places.of_block(block).map(|run| run.at..run.at + u64::from(run.bytes)).collect();
    writes.sort_unstable_by_key(|range| range.start);
    Move { bytes: work.index.blocks()[block as usize].bytes, reads, writes }
}

/// The block at its old place, if it is still there.
fn old_block(work: &Work, block: u32, from: &Move) -> Option<Vec<u8>> {
    let mut bytes = vec![0; from.bytes as usize];
    let mut done = 0;
    for range in &from.reads {
        let end = done + (range.end - range.start) as usize;
        work.out.read(bytes.get_mut(done..end)?, range.start).ok()?;
        done = end;
    }
    (done == bytes.len() && Sha256::of(&bytes) == work.index.blocks()[block as usize].sha256).then_some(bytes)
}
