//! A note of a head: a key and a value that this program need not understand.
//!
//! Lets a later hfl add information without a new revision of the format. Readers check its form and ignore it;
//! publishers carry it over from head to head. Invariant: there is one legal text for each value.

use std::fmt;
use std::str::FromStr;

/// Maximum number of notes in a head.
pub const NOTES_MAX: usize = 64;
/// Maximum length of a key, in bytes.
pub const NOTE_KEY_MAX_BYTES: usize = 32;
/// Maximum length of a value, in bytes: all notes of a head stay below 32 KiB, which leaves room for versions.
pub const NOTE_VALUE_MAX_BYTES: usize = 448;
/// Prefix of keys that bind publishers.
const BINDING: &str = "must-";

/// `KEY VALUE`; ordered byte by byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Note(String);

/// The error for a text that is not a note.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a note is a key (a letter, then a-z 0-9 . -, at most {NOTE_KEY_MAX_BYTES}), a space, and a value of printable ASCII \
     without spaces at its ends or two in a row, at most {NOTE_VALUE_MAX_BYTES} bytes"
)]
pub struct NoteError;

impl Note {
    /// The key, which defines the meaning of the value.
    pub fn key(&self) -> &str {
        self.0.split_once(' ').map_or(&*self.0, |(key, _)| key)
    }

    /// The value after the key.
    pub fn value(&self) -> &str {
        self.0.split_once(' ').map_or("", |(_, value)| value)
    }

    /// True if a publisher or garbage collector that does not know the key must not change anything of the image.
    pub fn binds_publishers(&self) -> bool {
        self.0.starts_with(BINDING)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let (key, value) = text.split_once(' ').ok_or(NoteError)?;
        if is_key(key) && is_value(value) { Ok(Self(text.to_owned())) } else { Err(NoteError) }
    }
}

fn is_key(key: &str) -> bool {
    let letter = key.starts_with(|c: char| c.is_ascii_lowercase());
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
    letter && key.len() <= NOTE_KEY_MAX_BYTES && key.bytes().all(plain)
}

fn is_value(value: &str) -> bool {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic());
    value.len() <= NOTE_VALUE_MAX_BYTES && value.split(' ').all(word)
}
