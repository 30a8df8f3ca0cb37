//! What changed between the newest version and the one before, with a map of the image.

use std::fmt::Write as _;

use minijinja::{Value, context};

use super::words;
use crate::format::difference::{Cell, Difference};
use crate::format::head::Head;
use crate::format::index::Index;

/// Squares of the map: so many in a row,
const COLUMNS: u64 = 64;
/// and at most so many rows.
const ROWS_MAX: u64 = 10;
/// Smallest part of an image that has a square of its own, in bytes.
const SQUARE_MIN_BYTES: u64 = 4096;
/// Shades of the map, from holes to what changed wholly; the names are those of the style sheet.
const SHADES: [&str; 6] = ["hole", "kept", "c1", "c2", "c3", "c4"];

/// The changes from `old` to `new`, the newest version of `head`.
pub fn between(head: &Head, old: &Index, new: &Index) -> Value {
    let difference = Difference::between(old, new);
    let (from, to) = (old.header().version, new.header().version);
    let (added, kept, removed) = (difference.added, difference.kept, difference.removed);
    let changed_bytes = difference.map(new, 1).first().map_or(0, |cell| cell.changed_bytes);
    let download = added.zlib_bytes + head.newest().index_bytes;
    context! {
        from => from.number(), is_same => difference.is_empty(),
        blocks => words::count(new.blocks().len() as u64),
        added => words::count(added.blocks), kept => words::count(kept.blocks), removed => words::count(removed.blocks),
        bytes => words::size(changed_bytes), share => words::percent(changed_bytes, new.size()),
        size => words::size(new.size()), old_size => words::size(old.size()), is_resized => old.size() != new.size(),
        is_cut_anew => old.header().split != new.header().split,
        download => words::size(download),
        deltas => head.files.iter().any(|file| file.path.update_of(&head.image) == Some((from, to))),
        map => map(&difference, new),
    }
}

/// The map: for each shade the path of its squares, and the measures of the picture.
fn map(difference: &Difference, new: &Index) -> Value {
    let squares = new.size().div_ceil(SQUARE_MIN_BYTES).clamp(1, COLUMNS * ROWS_MAX);
    let rows = squares.div_ceil(COLUMNS);
    let squares = if rows > 1 { rows * COLUMNS } else { squares };
    let cells = difference.map(new, squares as usize);
    let shades: Vec<Option<usize>> = cells.iter().map(shade).collect();
    let paths = SHADES.iter().enumerate().map(|(i, name)| context! { name, path => path(&shades, i) });
    context! {
        rows, columns => squares.min(COLUMNS), square => words::size(new.size().div_ceil(squares)),
        shades => paths.collect::<Vec<_>>(),
    }
}

/// How much of a square changed; `None` behind the end of the image.
fn shade(cell: &Cell) -> Option<usize> {
    let stored = cell.changed_bytes + cell.kept_bytes;
    match (stored, cell.changed_bytes) {
        (0, _) if cell.hole_bytes == 0 => None,
        (0, _) => Some(0),
        (_, 0) => Some(1),
        (stored, changed) => Some(2 + (u128::from(changed - 1) * 4 / u128::from(stored)) as usize),
    }
}

/// One line through each run of squares of this shade.
fn path(shades: &[Option<usize>], wanted: usize) -> String {
    let mut path = String::new();
    for (y, row) in shades.chunks(COLUMNS as usize).enumerate() {
        let mut x = 0;
        for run in row.chunk_by(|a, b| a == b) {
            if run[0] == Some(wanted) {
                // Writing to a text does not fail.
                let _ = write!(path, "M{x} {y}.5h{}", run.len());
            }
            x += run.len();
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_a_shade_are_one_line() {
        let shades = [Some(1), Some(1), Some(5), None, Some(1)];
        assert_eq!(path(&shades, 1), "M0 0.5h2M4 0.5h1");
        assert_eq!((path(&shades, 5), path(&shades, 0)), ("M2 0.5h1".into(), String::new()));
    }

    #[test]
    fn a_square_is_as_dark_as_it_changed() {
        let cell = |changed_bytes, kept_bytes, hole_bytes| shade(&Cell { changed_bytes, kept_bytes, hole_bytes });
        assert_eq!([cell(0, 0, 0), cell(0, 0, 9), cell(0, 9, 9)], [None, Some(0), Some(1)]);
        assert_eq!(
            [cell(1, 99, 0), cell(25, 75, 0), cell(26, 74, 0), cell(9, 0, 5)],
            [Some(2), Some(2), Some(3), Some(5)]
        );
    }
}
