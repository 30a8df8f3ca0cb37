//! An image that can only be read from start to end: standard input, or what a compressed file unpacks to.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::compression::Compression;
use super::file::Stamp;
use super::{CHUNK_BYTES, Part, foreign};
use crate::error::Error;

/// The bytes of an image, once.
pub(super) struct Stream {
    /// Its first bytes.
    pub(super) prefix: Vec<u8>,
    rest: Mutex<Box<dyn Read + Send>>,
    name: String,
    compression: Option<Compression>,
    /// The compressed file.
    file: Option<(File, PathBuf, Option<Stamp>)>,
}

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
            let rest = Mutex::new(Box::new(io::stdin()) as Box<dyn Read + Send>);
            return Ok(Self { prefix, rest, name: "-".into(), compression: None, file: None });
        };
        Self::unpacked("-".into(), compression, Cursor::new(prefix).chain(io::stdin()), None)
    }

    /// A compressed file.
    ///
    /// # Errors
    /// It is damaged, or does not unpack to an image.
    pub(super) fn file(file: File, path: &Path, compression: Compression, stamp: Option<Stamp>) -> Result<Self, Error> {
        let rewound = file.try_clone().and_then(|mut input| input.rewind().map(|()| input));
        let input = rewound.map_err(|e| Error::io(path, &e))?;
        Self::unpacked(path.display().to_string(), compression, input, Some((file, path.to_owned(), stamp)))
    }

    fn unpacked(
        name: String,
        compression: Compression,
        input: impl Read + Send + 'static,
        file: Option<(File, PathBuf, Option<Stamp>)>,
    ) -> Result<Self, Error> {
        let what = compression.name();
        let damaged = |e: io::Error| damaged(&name, compression, &e);
        let mut rest = compression.reader(BufReader::with_capacity(CHUNK_BYTES, input)).map_err(damaged)?;
        let mut prefix = Vec::new();
        rest.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut prefix).map_err(damaged)?;
        if prefix.is_empty() {
            return Err(Error::local(format!("{name}: there is nothing in the {what} data")));
        }
        foreign::refuse(&name, &prefix, Some(what))?;
        if let Some(inner) = Compression::of(&prefix) {
            let message = format!("{name}: {} within {what}: unpacked twice, it may be an image", inner.name());
            return Err(Error::local(message).hint("unpack it once, and publish what comes out"));
        }
        Ok(Self { prefix, rest: Mutex::new(rest), name, compression: Some(compression), file })
    }

    /// Path of the compressed file; `None` for standard input.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|(_, path, _)| &**path)
    }

    /// Passes all bytes, which works once; returns their number.
    ///
    /// # Errors
    /// A failed read, damaged data, a file that changed meanwhile.
    pub(super) fn read(&self, part: &mut dyn FnMut(Part<'_>) -> Result<(), Error>) -> Result<u64, Error> {
        let mut size = self.prefix.len() as u64;
        part(Part::Data(&self.prefix))?;
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
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

    fn failed(&self, e: &io::Error) -> Error {
        match self.compression {
            Some(compression) => damaged(&self.name, compression, e),
            None => Error::io(Path::new(&self.name), e),
        }
    }
}

fn damaged(name: &str, compression: Compression, e: &io::Error) -> Error {
    Error::local(format!("{name}: damaged or cut off {} data: {e}", compression.name()))
}
