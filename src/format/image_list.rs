//! The file `images`: the names of all images of a repository, one per line, sorted.

use std::collections::BTreeSet;

use crate::format::name::{NAME_MAX_BYTES, Name};
use crate::format::text::FormatError;

/// Maximum number of images in a repository.
pub const IMAGES_MAX: usize = 4096;
/// Maximum size of the list, in bytes: that many names of maximum length.
pub const FILE_MAX_BYTES: u64 = (IMAGES_MAX * (NAME_MAX_BYTES + 1)) as u64;

/// Reads a list as a set: order, duplicates and the last line feed do not matter.
///
/// # Errors
/// The first line that is not an image name, or too many names.
pub fn parse(file: &[u8]) -> Result<BTreeSet<Name>, FormatError> {
    let (names, wrong) = read(file);
    wrong.map_or(Ok(names), Err)
}

/// Reads the valid names of a list, and returns the error of the first invalid line.
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

/// The canonical text of a list.
pub fn to_text(names: &BTreeSet<Name>) -> String {
    names.iter().map(|name| format!("{name}\n")).collect()
}
