//! A public key as given on a command line: one line of base64, or a file that contains it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::format::signature::{KeyError, PublicKey};

/// A key file has two lines.
const FILE_MAX_BYTES: u64 = 4096;

/// Why an argument is not a usable key.
#[derive(Debug, thiserror::Error)]
pub enum GivenKeyError {
    /// Neither a key nor a file name.
    #[error("`{given}`: {why}, and no such file")]
    NoKey {
        /// The argument.
        given: String,
        /// Why it is not a key.
        why: KeyError,
    },
    /// A file that contains no key.
    #[error("{file}: {why}")]
    NoKeyInFile {
        /// File name.
        file: String,
        /// Why its text is not a key.
        why: KeyError,
    },
    /// A file that cannot be read.
    #[error("{file}: {why}")]
    Unreadable {
        /// File name.
        file: String,
        /// The I/O error.
        why: io::Error,
    },
}

/// Parses `given` as a key, or else reads the file of this name.
///
/// A valid key is never taken as a file name: another user may have put a file of that name, with another key, into the
/// current directory.
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
