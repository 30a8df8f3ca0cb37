//! Moves blocks within the old content of the output.

use std::collections::HashMap;
use std::ops::Range;

use super::moves::{Move, Step, plan};
use super::old_content::Found;
use super::work::Work;
use crate::error::Error;
use crate::format::digest::Sha256;
use crate::progress::{Origin, Phase};

/// Memory for blocks whose old place is overwritten before they can be written, in bytes.
const MEMORY_BYTES: u64 = 64 << 20;

/// Moves the blocks that were found. What cannot be read any more stays missing.
///
/// # Errors
/// A failed write; the user cancelled.
pub fn move_found(work: &Work, found: Found) -> Result<(), Error> {
    if found.is_empty() {
        return Ok(());
    }
    work.enter(Phase::Move);
    let mut found: Vec<(u32, Vec<Range<u64>>)> = found.into_iter().collect();
    found.sort_unstable_by_key(|(block, _)| *block);
    let blocks: Vec<u32> = found.iter().map(|(block, _)| *block).collect();
    let moves: Vec<Move> = found.into_iter().map(|(block, reads)| as_move(work, block, reads)).collect();
    let mut saved: HashMap<u32, Vec<u8>> = HashMap::new();
    for step in plan(&moves, MEMORY_BYTES) {
        work.check_cancelled()?;
        match step {
            Step::Save(number) => {
                if let Some(bytes) = read(work, blocks[number as usize], &moves[number as usize]) {
                    saved.insert(number, bytes);
                }
            }
            Step::Place(number) => {
                let block = blocks[number as usize];
                let bytes = saved.remove(&number).or_else(|| read(work, block, &moves[number as usize]));
                if let Some(bytes) = bytes {
                    work.write(block, &bytes, Origin::Moved)?;
                }
            }
            Step::GiveUp(_) => {}
        }
    }
    Ok(())
}

fn as_move(work: &Work, block: u32, reads: Vec<Range<u64>>) -> Move {
    let mut writes: Vec<Range<u64>> =
        work.places.of_block(block).map(|run| run.at..run.at + u64::from(run.bytes)).collect();
    writes.sort_unstable_by_key(|range| range.start);
    Move { bytes: work.index.blocks()[block as usize].bytes, reads, writes }
}

/// The block at its old place, if it is still there.
fn read(work: &Work, block: u32, from: &Move) -> Option<Vec<u8>> {
    let mut bytes = vec![0; from.bytes as usize];
    let mut done = 0;
    for range in &from.reads {
        let end = done + (range.end - range.start) as usize;
        work.out.read(bytes.get_mut(done..end)?, range.start).ok()?;
        done = end;
    }
    (done == bytes.len() && Sha256::of(&bytes) == work.index.blocks()[block as usize].sha256).then_some(bytes)
}
