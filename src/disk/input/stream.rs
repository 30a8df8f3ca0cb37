//! An image that can only be read from start to end: standard input, or what a compressed file unpacks to.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::compression::Compression;
use super::file::Stamp;
use super::{CHUNK_BYTES, Part, foreign, xz_blocks};
use crate::error::Error;

/// The bytes of an image, once.
pub(super) struct Stream {
    /// Its first bytes.
    pub(super) prefix: Vec<u8>,
    /// What follows them, until it was read.
    rest: Mutex<Option<Rest>>,
    name: String,
    compression: Option<Compression>,
    /// The compressed file.
    file: Option<(File, PathBuf, Option<Stamp>)>,
}

type Rest = Box<dyn Read + Send>;

impl Stream {
    /// Standard input, unpacked if it is compressed.
    ///
    /// # Errors
    /// It is empty, damaged, or no image.
    pub(super) fn stdin() -> Result<Self, Error> {
        let mut prefix = Vec::new();
        let read = io::stdin().lock().take(CHUNK_BYTES as u64).read_to_end(&mut prefix);
        read.map_err(|e| Error::io(Path::new("-"), &e))?;
        if prefix.is_empty() {
            return Err(Error::local("-: standard input is empty, there is no image in it"));
        }
        foreign::refuse("-", &prefix, None)?;
        let Some(compression) = Compression::of(&prefix) else {
            let rest = Mutex::new(Some(Box::new(io::stdin()) as Rest));
            return Ok(Self { prefix, rest, name: "-".into(), compression: None, file: None });
        };
        let input = BufReader::with_capacity(CHUNK_BYTES, Cursor::new(prefix).chain(io::stdin()));
        let rest = compression.reader(input).map_err(|e| damaged("-", compression, &e))?;
        Self::unpacked("-".into(), compression, rest, None)
    }

    /// A compressed file.
    ///
    /// # Errors
    /// It is damaged, or does not unpack to an image.
    pub(super) fn file(file: File, path: &Path, compression: Compression, stamp: Option<Stamp>) -> Result<Self, Error> {
        let rest = reader(&file, path, compression)?;
        Self::unpacked(path.display().to_string(), compression, rest, Some((file, path.to_owned(), stamp)))
    }

    fn unpacked(
        name: String,
        compression: Compression,
        mut rest: Rest,
        file: Option<(File, PathBuf, Option<Stamp>)>,
    ) -> Result<Self, Error> {
        let what = compression.name();
        let mut prefix = Vec::new();
        let read = rest.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut prefix);
        read.map_err(|e| damaged(&name, compression, &e))?;
        if prefix.is_empty() {
            return Err(Error::local(format!("{name}: there is nothing in the {what} data")));
        }
        foreign::refuse(&name, &prefix, Some(what))?;
        if let Some(inner) = Compression::of(&prefix) {
            let message = format!("{name}: {} within {what}: unpacked twice, it may be an image", inner.name());
            return Err(Error::local(message).hint("unpack it once, and publish what comes out"));
        }
        Ok(Self { prefix, rest: Mutex::new(Some(rest)), name, compression: Some(compression), file })
    }

    /// Whether it comes from a file, and can be read again.
    pub(super) fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// Passes all bytes, and returns their number. Standard input can be read once, a file any number of times.
    ///
    /// # Errors
    /// A failed read, damaged data, a file that changed meanwhile.
    pub(super) fn read(&self, part: &mut dyn FnMut(Part<'_>) -> Result<(), Error>) -> Result<u64, Error> {
        let (mut size, mut rest) = self.begin()?;
        if size > 0 {
            part(Part::Data(&self.prefix))?;
        }
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let length = match rest.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.failed(&e)),
            };
            part(Part::Data(&buffer[..length]))?;
            size += length as u64;
        }
        if let Some((file, path, Some(stamp))) = &self.file {
            stamp.check(file, path)?;
        }
        Ok(size)
    }

    /// How many bytes are in the prefix and need not be read again, and the reader of the others.
    fn begin(&self) -> Result<(u64, Rest), Error> {
        let rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (rest, &self.file, self.compression) {
            (Some(rest), ..) => Ok((self.prefix.len() as u64, rest)),
            (None, Some((file, path, _)), Some(compression)) => Ok((0, reader(file, path, compression)?)),
            (None, ..) => Err(Error::local(format!("{}: it can be read only once", self.name))),
        }
    }

    fn failed(&self, e: &io::Error) -> Error {
        match self.compression {
            Some(compression) => damaged(&self.name, compression, e),
            None => Error::io(Path::new(&self.name), e),
        }
    }
}

/// Unpacks a file from its start.
fn reader(file: &File, path: &Path, compression: Compression) -> Result<Rest, Error> {
    if let Some(blocks) = (compression == Compression::Xz).then(|| xz_blocks::open(file)).flatten() {
        return Ok(Box::new(blocks));
    }
    let rewound = file.try_clone().and_then(|mut input| input.rewind().map(|()| input));
    let input = BufReader::with_capacity(CHUNK_BYTES, rewound.map_err(|e| Error::io(path, &e))?);
    compression.reader(input).map_err(|e| damaged(&path.display().to_string(), compression, &e))
}

fn damaged(name: &str, compression: Compression, e: &io::Error) -> Error {
    Error::local(format!("{name}: damaged or cut off {} data: {e}", compression.name()))
}
