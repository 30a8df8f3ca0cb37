//! The list `images`: the names of all images of a repository, one a line, sorted.

use std::collections::BTreeSet;

use crate::format::name::{NAME_MAX_BYTES, Name};
use crate::format::text::FormatError;

/// The most images of a repository.
pub const IMAGES_MAX: usize = 4096;
/// The largest list, in bytes: that many of the longest names.
pub const FILE_MAX_BYTES: u64 = (IMAGES_MAX * (NAME_MAX_BYTES + 1)) as u64;

/// Reads a list as a set: neither the order nor a name that stands there twice matters, nor the last line feed.
///
/// # Errors
/// The first line that is no name, or one name too many.
pub fn parse(file: &[u8]) -> Result<BTreeSet<Name>, FormatError> {
    let (names, wrong) = read(file);
    wrong.map_or(Ok(names), Err)
}

/// Reads as much of a list as makes sense, and says what is wrong with the first line that does not.
pub fn read(file: &[u8]) -> (BTreeSet<Name>, Option<FormatError>) {
    let (mut names, mut wrong) = (BTreeSet::new(), None);
    for (line, text) in (1..).zip(String::from_utf8_lossy(file).lines()) {
        if names.len() >= IMAGES_MAX {
            wrong.get_or_insert(FormatError::line(line, format!("more than {IMAGES_MAX} images")));
            break;
        }
        match text.parse() {
            Ok(name) => drop(names.insert(name)),
            Err(e) => {
                let shown: String = text.chars().take(40).collect();
                wrong.get_or_insert(FormatError::line(line, format!("{shown:?} is not the name of an image: {e}")));
            }
        }
    }
    (names, wrong)
}

/// The one text of a list.
pub fn to_text(names: &BTreeSet<Name>) -> String {
    names.iter().map(|name| format!("{name}\n")).collect()
}
