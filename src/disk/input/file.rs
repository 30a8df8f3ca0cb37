//! Reading a file or block device from start to end, without its holes.
//!
//! Holes of a sparse file are located with `SEEK_DATA` and `SEEK_HOLE` and are never read. A file that changes while
//! it is read is detected by comparing its size and times before and after.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use super::{CHUNK_BYTES, Part};
use crate::error::Error;

/// Data ranges are widened to whole pages, so that no page is part hole, part data.
const PAGE_BYTES: u64 = 4096;

/// Metadata that changes when a file is modified.
#[derive(PartialEq, Eq, Clone, Copy)]
pub(super) struct Stamp {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        let (modified, changed) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
        Ok(Self { size: meta.len(), modified, changed })
    }

    /// Checks that the file has not changed since.
    ///
    /// # Errors
    /// It has.
    pub(super) fn check(&self, file: &File, path: &Path) -> Result<(), Error> {
        if *self == Self::of(file).map_err(|e| Error::io(path, &e))? {
            return Ok(());
        }
        Err(Error::local(format!("{}: changed while it was read; nothing was published", path.display()))
            .hint("stop what writes to it, or publish a snapshot or a copy of it"))
    }
}

/// Reads the first `size` bytes of a file, in order, except for what lies `elsewhere`.
pub(super) fn read(
    file: &File,
    path: &Path,
    size: u64,
    elsewhere: &dyn Fn(u64) -> Option<Range<u64>>,
    part: &mut dyn FnMut(Part<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    let fail = |e: io::Error| Error::io(path, &e);
    while at < size {
        let data = next_data(file, at, size).map_err(fail)?;
        if data.start > at {
            part(Part::Hole(data.start - at))?;
        }
        at = data.start;
        while at < data.end {
            let length = match needed(elsewhere(at), at, data.end) {
                Needed::Skip(bytes) => {
                    part(Part::Skipped(bytes))?;
                    at += bytes;
                    continue;
                }
                Needed::Read(bytes) => bytes.min(CHUNK_BYTES as u64) as usize,
            };
            file.read_exact_at(&mut buffer[..length], at).map_err(fail)?;
            part(Part::Data(&buffer[..length]))?;
            at += length as u64;
        }
    }
    Ok(())
}

/// Bytes of the hole that begins at `at`; 0 where none is known.
pub(super) fn hole_at(file: &File, at: u64, size: u64) -> u64 {
    next_data(file, at, size).map_or(0, |data| data.start - at)
}

/// What to do at an offset.
pub(super) enum Needed {
    /// So many bytes are not needed.
    Skip(u64),
    /// So many are.
    Read(u64),
}

/// What to do with the bytes from `at` to `end`, if the next ones that are not needed are `elsewhere`.
pub(super) fn needed(elsewhere: Option<Range<u64>>, at: u64, end: u64) -> Needed {
    match elsewhere {
        Some(next) if next.start <= at && at < next.end => Needed::Skip(next.end.min(end) - at),
        Some(next) if next.start > at => Needed::Read(next.start.min(end) - at),
        _ => Needed::Read(end - at),
    }
}

/// The next data range at or after `at`, widened to whole pages; empty at `size` if only a hole is left.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<Range<u64>> {
    use rustix::fs::SeekFrom::{Data, Hole};
    use rustix::io::Errno;
    let start = match rustix::fs::seek(file, Data(at)) {
        Ok(start) => (start / PAGE_BYTES * PAGE_BYTES).clamp(at, size),
        Err(Errno::NXIO) => return Ok(size..size),
        Err(Errno::INVAL | Errno::NOTTY | Errno::OPNOTSUPP) => return Ok(at..size),
        Err(e) => return Err(e.into()),
    };
    let end = match rustix::fs::seek(file, Hole(start.max(at))) {
        Ok(end) => end.next_multiple_of(PAGE_BYTES).min(size),
        Err(_) => size,
    };
    Ok(start..end.max((start + PAGE_BYTES).min(size)))
}
