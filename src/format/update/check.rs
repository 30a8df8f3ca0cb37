//! Validity of an update: the rules beyond the syntax of single lines.

use super::{BASES_MAX, Bases, DELTAS_MAX, DeltaRow, PREFIX_MAX_BYTES};
use crate::format::block::{BlockRow, zlib_max_bytes};
use crate::format::index::by_name::ByName;
use crate::format::name::Version;

/// The part of an update that violates a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The base at this position, counted from 0.
    Base(usize),
    /// The delta at this position, counted from 0.
    Delta(usize),
    /// The update as a whole.
    Whole,
}

/// A violated rule, and the part that violates it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct UpdateError {
    /// The part of the update.
    pub place: Place,
    /// The rule, as a sentence.
    pub why: String,
}

fn broken<T>(place: Place, why: impl Into<String>) -> Result<T, UpdateError> {
    Err(UpdateError { place, why: why.into() })
}

pub(super) fn check(
    (from, version): (Version, Version),
    bases: &[BlockRow],
    deltas: &[DeltaRow],
) -> Result<(), UpdateError> {
    if from >= version {
        return broken(Place::Whole, format!("from version {from} to {version}: only to a later one"));
    }
    if deltas.len() as u64 > DELTAS_MAX || bases.len() as u64 > BASES_MAX {
        let why = format!("{} deltas of {} bases, at most {DELTAS_MAX} are allowed", deltas.len(), bases.len());
        return broken(Place::Whole, why);
    }
    for (i, row) in bases.iter().enumerate() {
        if row.zlib_bytes == 0 || u64::from(row.zlib_bytes) > zlib_max_bytes(row.bytes) || row.bytes == 0 {
            return broken(Place::Base(i), "a base of no possible size");
        }
    }
    if let Some((i, _)) = ByName::new(bases).repeated() {
        return broken(Place::Base(i), format!("base {} is listed twice", bases[i].id));
    }
    let mut used = 0;
    for (i, row) in deltas.iter().enumerate() {
        if i > 0 && deltas[i - 1].id >= row.id {
            return broken(Place::Delta(i), "the deltas must be sorted by the names of their blocks, each once");
        }
        used = check_bases(i, row, bases, used)?;
    }
    if used < bases.len() {
        return broken(Place::Base(used), format!("no delta uses base {}", bases[used].id));
    }
    Ok(())
}

/// Checks the bases of one delta; `used` is the number of bases that were named before, and the result that after it.
fn check_bases(i: usize, row: &DeltaRow, bases: &[BlockRow], mut used: usize) -> Result<usize, UpdateError> {
    let mut prefix_bytes = 0;
    for base in row.bases.iter().map(|base| base as usize) {
        if base > used || base >= bases.len() {
            return broken(Place::Delta(i), "the bases must stand in the order in which deltas first name them");
        }
        used = used.max(base + 1);
        prefix_bytes += u64::from(bases[base].bytes);
        if bases[base].id == row.id {
            return broken(Place::Delta(i), "a delta of a block on itself");
        }
    }
    if matches!(row.bases, Bases::Two(first, second) if first == second) {
        return broken(Place::Delta(i), "both bases are the same");
    }
    if prefix_bytes > u64::from(PREFIX_MAX_BYTES) {
        return broken(Place::Delta(i), format!("its bases have more than {PREFIX_MAX_BYTES} bytes"));
    }
    Ok(used)
}
