//! A public key as it is given on a command line: its one line of base64, or a file that holds it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::format::signature::{KeyError, PublicKey};

/// A file of a key has two lines.
const FILE_MAX_BYTES: u64 = 4096;

/// A text that gives no key.
#[derive(Debug, thiserror::Error)]
pub enum GivenKeyError {
    /// Neither a key nor the name of a file.
    #[error("`{given}`: {why}, and no such file")]
    NoKey {
        /// What was given.
        given: String,
        /// Why it is no key.
        why: KeyError,
    },
    /// A file that holds no key.
    #[error("{file}: {why}")]
    NoKeyInFile {
        /// The file.
        file: String,
        /// Why its text is no key.
        why: KeyError,
    },
    /// A file that cannot be read.
    #[error("{file}: {why}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why not.
        why: io::Error,
    },
}

/// The key that `given` is, or that the file of this name holds.
///
/// A text that is a key is never taken for the name of a file: another user may have put a file of that name, with a key
/// of his own, into the current directory.
///
/// # Errors
/// See [`GivenKeyError`].
pub fn given_key(given: &str) -> Result<PublicKey, GivenKeyError> {
    let why = match given.parse() {
        Ok(key) => return Ok(key),
        Err(why) => why,
    };
    if !Path::new(given).is_file() {
        return Err(GivenKeyError::NoKey { given: given.to_owned(), why });
    }
    let mut text = String::new();
    let read = File::open(given).and_then(|file| file.take(FILE_MAX_BYTES).read_to_string(&mut text));
    read.map_err(|why| GivenKeyError::Unreadable { file: given.to_owned(), why })?;
    text.parse().map_err(|why| GivenKeyError::NoKeyInFile { file: given.to_owned(), why })
}
