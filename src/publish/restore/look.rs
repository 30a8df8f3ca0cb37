//! Looks whether a block lies where it belongs, by reading all its places: the contents count, no record of them.

use super::output::Output;
use crate::format::block::BlockRow;
use crate::format::digest::Sha256;
use crate::publish::places::Places;

/// How a block lies in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lies {
    /// At all its places.
    Right,
    /// At some of them; its bytes were read.
    Partly,
    /// Not so that it was found.
    Not,
}

/// Reads the places of a block into `bytes`, and compares its digest. What cannot be read is not there.
pub fn look(out: &Output, places: &Places, block: u32, row: &BlockRow, bytes: &mut Vec<u8>) -> Lies {
    // No block is all zero.
    if places.of_block(block).all(|run| out.is_hole(run.at, run.bytes.into())) {
        return Lies::Not;
    }
    bytes.resize(row.bytes as usize, 0);
    if !places.cover(block).all(|part| out.read(&mut bytes[part.of_block()], part.at).is_ok()) {
        return Lies::Not;
    }
    if Sha256::of(&bytes[..]) != row.sha256 {
        return Lies::Not;
    }
    // What was not read yet repeats what was.
    let (mut end, mut again) = (0, Vec::new());
    for run in places.of_block(block) {
        let is_read = run.offset as usize == end;
        end = end.max(run.of_block().end);
        if !is_read {
            again.resize(run.bytes as usize, 0);
            if out.read(&mut again, run.at).is_err() || again != bytes[run.of_block()] {
                return Lies::Partly;
            }
        }
    }
    Lies::Right
}
