//! Validity of a head: the rules beyond the syntax of single lines.

use super::{FileRow, Head, HeadError, MIRRORS_MAX, NOTES_MAX, Note, VersionRow};
use crate::format::index;
use crate::format::layout::Kind;

/// Lines before the first mirror: the format line, `image`, `created`, `expires`.
const LINES_BEFORE_MIRRORS: usize = 4;

/// Errors carry the line of the invalid part in the head's text.
pub(super) fn check(head: &Head) -> Result<(), HeadError> {
    let mut above = LINES_BEFORE_MIRRORS;
    mirrors(head).map_err(|(i, why)| HeadError::new(above + 1 + i, why))?;
    above += head.mirrors.len();
    files(&head.files).map_err(|(i, why)| HeadError::new(above + 1 + i, why))?;
    above += head.files.len();
    notes(&head.notes).map_err(|(i, why)| HeadError::new(above + 1 + i, why))?;
    above += head.notes.len();
    if head.versions.is_empty() {
        return Err(HeadError::new(above + 1, "a head names at least one version"));
    }
    above += 2;
    versions(&head.versions).map_err(|(i, why)| HeadError::new(above + 1 + i, why))
}

type Broken = (usize, &'static str);

fn mirrors(head: &Head) -> Result<(), Broken> {
    if head.mirrors.len() > MIRRORS_MAX {
        return Err((MIRRORS_MAX, "more than 256 mirrors"));
    }
    let twice = |&i: &usize| head.mirrors[..i].contains(&head.mirrors[i]);
    (0..head.mirrors.len()).find(twice).map_or(Ok(()), |i| Err((i, "a mirror is named twice")))
}

fn files(rows: &[FileRow]) -> Result<(), Broken> {
    for (i, row) in rows.iter().enumerate() {
        if i > 0 && rows[i - 1].path >= row.path {
            return Err((i, "the files must be sorted by path, each once"));
        }
        if row.path.kind() != Kind::File {
            return Err((i, "blocks, indexes, heads and the list of images are no further files"));
        }
        if row.bytes > index::IMAGE_MAX_BYTES {
            return Err((i, "the file's bytes are outside the limits"));
        }
    }
    Ok(())
}

fn notes(notes: &[Note]) -> Result<(), Broken> {
    if notes.len() > NOTES_MAX {
        return Err((NOTES_MAX, "more than 64 notes"));
    }
    let unsorted = |&i: &usize| notes[i - 1] >= notes[i];
    (1..notes.len()).find(unsorted).map_or(Ok(()), |i| Err((i, "the notes must be sorted, each once")))
}

fn versions(rows: &[VersionRow]) -> Result<(), Broken> {
    for (i, row) in rows.iter().enumerate() {
        if i > 0 && rows[i - 1].version <= row.version {
            return Err((i, "the versions must stand newest first, each once"));
        }
        let index_fits = (1..=index::FILE_MAX_BYTES).contains(&row.index_bytes);
        let size_fits = (1..=index::IMAGE_MAX_BYTES).contains(&row.size);
        if !index_fits || !size_fits || row.new_bytes > index::IMAGE_MAX_BYTES {
            return Err((i, "a number of bytes is outside the limits"));
        }
    }
    Ok(())
}
