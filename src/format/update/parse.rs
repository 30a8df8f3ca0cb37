//! Reading an update.

use super::check::Place;
use super::{BASES_MAX, Bases, DELTAS_MAX, DeltaRow, FILE_MAX_BYTES, LINE_MAX_BYTES, Update};
use crate::format::block::{BLOCK_MAX_BYTES, zlib_max_bytes};
use crate::format::digest::{BlockId, Sha256};
use crate::format::index::{block_row, rows};
use crate::format::text::{FormatError, Line, Lines};

/// Lines before the first base: the format line, five of the header, the separator.
const LINES_BEFORE_BASES: usize = 7;
/// Minimum lengths of rows, with their LF: they bound the number of rows before any allocation.
const BASE_ROW_MIN_BYTES: u64 = 40 + 1 + 64 + 1 + 1 + 1 + 1 + 1;
const DELTA_ROW_MIN_BYTES: u64 = 40 + 1 + 1 + 1 + 64 + 1 + 1 + 1;

impl Update {
    /// Reads an update file.
    ///
    /// Accepts only what [`Update::to_bytes`] would write, so `parse(y)?.to_bytes() == y` for every accepted `y`.
    ///
    /// # Errors
    /// The first invalid line, with the reason.
    pub fn parse(file: &[u8]) -> Result<Self, FormatError> {
        if file.len() as u64 > FILE_MAX_BYTES {
            return Err(FormatError::whole(format!("{} bytes, at most {FILE_MAX_BYTES} are allowed", file.len())));
        }
        let mut lines = Lines::open(file, "HFL-UPDATE", LINE_MAX_BYTES)?;
        let image = lines.header("image")?.parse()?;
        let version = lines.header("version")?.parse()?;
        let from = lines.header("from")?.parse()?;
        let bases = lines.count("bases", BASES_MAX, BASE_ROW_MIN_BYTES)?;
        let deltas = lines.count("deltas", DELTAS_MAX, DELTA_ROW_MIN_BYTES)?;
        lines.separator("the header")?;
        let bases = rows(&mut lines, bases, "bases", block_row)?;
        lines.separator("the bases")?;
        let deltas = rows(&mut lines, deltas, "deltas", delta_row)?;
        lines.end(file)?;
        let first_delta_line = LINES_BEFORE_BASES + bases.len() + 2;
        Self::new(image, (from, version), bases, deltas).map_err(|e| match e.place {
            Place::Base(i) => FormatError::line((LINES_BEFORE_BASES + 1 + i) as u64, e.why),
            Place::Delta(i) => FormatError::line((first_delta_line + i) as u64, e.why),
            Place::Whole => FormatError::whole(e.why),
        })
    }
}

fn delta_row(line: &mut Line<'_>) -> Result<DeltaRow, FormatError> {
    let id = BlockId(line.hex("a SHA-1")?);
    line.space()?;
    let bytes = line.number("the bytes of the delta", 1, zlib_max_bytes(BLOCK_MAX_BYTES))? as u32;
    line.space()?;
    let sha256 = Sha256(line.hex("a SHA-256")?);
    line.space()?;
    let first = line.number("a base", 0, BASES_MAX - 1)? as u32;
    if line.rest().is_empty() {
        return Ok(DeltaRow { id, bytes, sha256, bases: Bases::One(first) });
    }
    line.space()?;
    let second = line.number("a base", 0, BASES_MAX - 1)? as u32;
    Ok(DeltaRow { id, bytes, sha256, bases: Bases::Two(first, second) })
}
