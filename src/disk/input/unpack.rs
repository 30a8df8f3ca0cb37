//! An image for what reads it at any offset: a stream is unpacked to a temporary file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::file::Stamp;
use super::{Input, Part, Source};
use crate::error::Error;

/// Pages that are zero are left out of the temporary file.
const PAGE_BYTES: usize = 4096;

impl Input {
    /// The same image, to be read at any offset: a stream is unpacked to a temporary file in `directory`, which has no
    /// name, so nothing of it remains whatever happens.
    ///
    /// # Errors
    /// A failed read or write; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) once `goes_on`, which is given the
    /// bytes of each part, returns false.
    pub fn seekable(self, directory: &Path, goes_on: &dyn Fn(u64) -> bool) -> Result<Self, Error> {
        if self.is_seekable() {
            return Ok(self);
        }
        let path = PathBuf::from(&self.name);
        let (file, size) = self.unpack(directory, goes_on)?;
        let stamp = Some(Stamp::of(&file).map_err(|e| Error::io(&path, &e))?);
        Ok(Self { name: self.name, source: Source::File { file, path, size, stamp }, stated: None })
    }

    fn unpack(&self, directory: &Path, goes_on: &dyn Fn(u64) -> bool) -> Result<(File, u64), Error> {
        let failed = |e: io::Error| {
            Error::local(format!("{}: cannot be unpacked to {}: {e}", self.name, directory.display()))
                .hint("set XDG_CACHE_HOME to a directory with room for the unpacked image")
        };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let file = tempfile::tempfile_in(directory).map_err(failed)?;
        let mut at = 0;
        let size = self.read(&|_| None, &mut |part| {
            if !goes_on(part.bytes()) {
                return Err(Error::interrupted());
            }
            if let Part::Data(bytes) = part {
                write_data(&file, at, bytes).map_err(failed)?;
            }
            at += part.bytes();
            Ok(())
        })?;
        file.set_len(size).map_err(failed)?;
        Ok((file, size))
    }
}

/// Writes the pages that are not zero.
fn write_data(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    let pages = bytes.chunks(PAGE_BYTES).zip((at..).step_by(PAGE_BYTES));
    pages.filter(|(page, _)| page.iter().any(|&byte| byte != 0)).try_for_each(|(page, at)| file.write_all_at(page, at))
}
