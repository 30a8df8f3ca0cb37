//! The file or device that an image is restored to: reads and writes at offsets, and what makes them last.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, CWD, FallocateFlags, RenameFlags, SeekFrom};
use rustix::io::Errno;

use crate::error::Error;
use crate::split::is_zero;

/// What is read or zeroed at once, in bytes.
const PIECE_BYTES: u64 = 1 << 20;
/// Unit in which contents are compared and zeroed: a page.
const PAGE_BYTES: u64 = 4096;

/// There is a file where a new one is to be.
pub fn exists(path: &Path) -> Error {
    Error::local(format!("{}: exists already", path.display()))
        .hint("replace it with --force, or update it with --in-place")
}

/// The output of a restore, locked against others.
#[derive(Debug)]
pub struct Output {
    pub(super) file: File,
    /// What is written: a device, the old file, or the partial file.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    /// Size of its old content in bytes, 0 if there is none that counts.
    pub(super) old_bytes: u64,
    /// Whether anything was written.
    pub(super) is_touched: AtomicBool,
}

/// What an output is.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// A partial file, which gets this name once it is complete.
    New {
        /// The name.
        name: PathBuf,
        /// Whether an existing file of that name may be replaced.
        replace: bool,
    },
    /// A file that is changed in place.
    OldFile,
    /// A device whose old content counts for nothing.
    Device,
    /// A device that is changed in place.
    OldDevice,
}

impl Output {
    /// The path of what is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is changed in place, and blocks of its old content are used.
    pub fn is_in_place(&self) -> bool {
        matches!(self.kind, Kind::OldFile | Kind::OldDevice)
    }

    /// Whether it is a device.
    pub fn is_device(&self) -> bool {
        matches!(self.kind, Kind::Device | Kind::OldDevice)
    }

    /// Size of the old content in bytes; 0 if there is none that counts.
    pub fn old_bytes(&self) -> u64 {
        self.old_bytes
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn fail(&self, error: impl Into<io::Error>) -> Error {
        Error::io(&self.path, &error.into())
    }

    /// Fills `out` from `at`.
    ///
    /// # Errors
    /// A failed read, or one beyond the end.
    pub fn read(&self, out: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(out, at)
    }

    /// Writes `bytes` at `at`.
    ///
    /// # Errors
    /// A failed write.
    pub fn write(&self, bytes: &[u8], at: u64) -> Result<(), Error> {
        self.is_touched.store(true, Ordering::Relaxed);
        self.file.write_all_at(bytes, at).map_err(|e| self.fail(e))
    }

    /// Writes those pages of `bytes` that differ from what lies at `at`; returns how many bytes that were.
    ///
    /// # Errors
    /// A failed write.
    pub fn write_differing(&self, bytes: &[u8], at: u64) -> Result<u64, Error> {
        let mut old = vec![0; bytes.len()];
        if self.read(&mut old, at).is_err() {
            return self.write(bytes, at).map(|()| bytes.len() as u64);
        }
        let (mut written, mut start) = (0, 0);
        while start < bytes.len() {
            // Runs of pages of the output that are all the same, or all differ.
            let page_end = |from: usize| {
                (from as u64 + PAGE_BYTES - (at + from as u64) % PAGE_BYTES).min(bytes.len() as u64) as usize
            };
            let differs = |from: usize| bytes[from..page_end(from)] != old[from..page_end(from)];
            let (is_new, mut end) = (differs(start), page_end(start));
            while end < bytes.len() && differs(end) == is_new {
                end = page_end(end);
            }
            if is_new {
                self.write(&bytes[start..end], at + start as u64)?;
                written += (end - start) as u64;
            }
            start = end;
        }
        Ok(written)
    }

    /// Whether `bytes` from `at` on are in a hole of the file, and need not be read.
    pub fn is_hole(&self, at: u64, bytes: u64) -> bool {
        match rustix::fs::seek(&self.file, SeekFrom::Data(at)) {
            Ok(data) => data >= at + bytes,
            Err(Errno::NXIO) => true,
            Err(_) => false,
        }
    }

    /// Makes a range of the image zero, as far as it is not; returns what was changed.
    ///
    /// A hole of a file becomes one again; on a device, what is zero is left alone if its old content counts.
    ///
    /// # Errors
    /// A failed read or write.
    pub fn zero(&self, range: Range<u64>) -> Result<Vec<Range<u64>>, Error> {
        match self.kind {
            Kind::New { .. } | Kind::OldFile => self.empty(range),
            Kind::Device => self.zero_all(range.clone()).map(|()| vec![range]),
            Kind::OldDevice => self.zero_differing(range),
        }
    }

    /// Removes the data in a range of a file.
    fn empty(&self, range: Range<u64>) -> Result<Vec<Range<u64>>, Error> {
        let (mut at, mut emptied) = (range.start, Vec::new());
        while at < range.end {
            let start = match rustix::fs::seek(&self.file, SeekFrom::Data(at)) {
                Ok(start) if start < range.end => start.max(at),
                Ok(_) | Err(Errno::NXIO) => break,
                // No support for holes: all of it may be data.
                Err(_) => at,
            };
            let end = rustix::fs::seek(&self.file, SeekFrom::Hole(start)).map_or(range.end, |end| end.min(range.end));
            // What is zero anyway only gives its space back.
            let is_zero = self.kind == Kind::OldFile && self.is_zero(start..end).unwrap_or(false);
            self.zero_all(start..end)?;
            if !is_zero {
                emptied.push(start..end);
            }
            at = end;
        }
        Ok(emptied)
    }

    /// Zeroes those pieces of a range that are not zero.
    fn zero_differing(&self, range: Range<u64>) -> Result<Vec<Range<u64>>, Error> {
        let mut piece = vec![0; PIECE_BYTES as usize];
        let mut zeroed: Vec<Range<u64>> = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let end = (at - at % PIECE_BYTES + PIECE_BYTES).min(range.end);
            let piece = &mut piece[..(end - at) as usize];
            let is_right = self.read(piece, at).is_ok() && is_zero(piece);
            if !is_right {
                match zeroed.last_mut() {
                    Some(last) if last.end == at => last.end = end,
                    _ => zeroed.push(at..end),
                }
            }
            at = end;
        }
        zeroed.iter().try_for_each(|range| self.zero_all(range.clone()))?;
        Ok(zeroed)
    }

    /// Zeroes a range: without writing where the file system or device can do that, by whole pages.
    fn zero_all(&self, range: Range<u64>) -> Result<(), Error> {
        self.is_touched.store(true, Ordering::Relaxed);
        let (start, end) = (range.start.next_multiple_of(PAGE_BYTES), range.end - range.end % PAGE_BYTES);
        // Both leave zeros; the first one gives the space back too.
        let ways = [FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, FallocateFlags::ZERO_RANGE];
        let zeroed = |way: &FallocateFlags| rustix::fs::fallocate(&self.file, *way, start, end - start).is_ok();
        if start < end && ways.iter().any(zeroed) {
            self.write_zeros(range.start..start)?;
            return self.write_zeros(end..range.end);
        }
        self.write_zeros(range)
    }

    fn write_zeros(&self, range: Range<u64>) -> Result<(), Error> {
        let zeros = vec![0; PIECE_BYTES.min(range.end - range.start) as usize];
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(zeros.len() as u64);
            self.write(&zeros[..length as usize], at)?;
            at += length;
        }
        Ok(())
    }

    /// Whether all of a range is zero, read from the medium.
    ///
    /// # Errors
    /// A failed read.
    pub fn is_zero(&self, range: Range<u64>) -> io::Result<bool> {
        let mut piece = vec![0; PIECE_BYTES.min(range.end - range.start) as usize];
        let mut at = range.start;
        while at < range.end && (self.is_device() || !self.is_hole(at, range.end - at)) {
            let length = (range.end - at).min(piece.len() as u64) as usize;
            self.read(&mut piece[..length], at)?;
            if !is_zero(&piece[..length]) {
                return Ok(false);
            }
            at += length as u64;
        }
        Ok(true)
    }

    /// Writes to the medium what is in the page cache, without the times of the file.
    ///
    /// # Errors
    /// A failed write, now or earlier.
    pub fn sync_data(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|e| self.fail(e))
    }

    /// Writes everything to the medium, at its final size.
    ///
    /// # Errors
    /// A failed write, now or earlier.
    pub fn sync(&self, bytes: u64) -> Result<(), Error> {
        if !self.is_device() {
            self.file.set_len(bytes).map_err(|e| self.fail(e))?;
        }
        self.file.sync_all().map_err(|e| self.fail(e))
    }

    /// Drops the output from the page cache, after [`Output::sync`]: what is read next comes from the medium.
    pub fn drop_cache(&self) {
        // Where that is not supported, what is read may come from the cache.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
    }

    /// Gives a complete file its final name.
    ///
    /// # Errors
    /// A file system error; a file created under that name meanwhile.
    pub fn finish(&self) -> Result<(), Error> {
        let Kind::New { name, replace } = &self.kind else { return Ok(()) };
        self.rename(name, *replace)?;
        let directory = name.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|e| Error::io(directory, &e))
    }

    fn rename(&self, name: &Path, replace: bool) -> Result<(), Error> {
        if !replace {
            match rustix::fs::renameat_with(CWD, &self.path, CWD, name, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => return Err(exists(name)),
                // The file system does not support NOREPLACE.
                Err(_) if name.symlink_metadata().is_ok() => return Err(exists(name)),
                Err(_) => {}
            }
        }
        std::fs::rename(&self.path, name).map_err(|e| Error::io(name, &e))
    }

    /// Removes a partial file in which there is nothing.
    pub fn discard_empty(&self) {
        if matches!(self.kind, Kind::New { .. }) && self.old_bytes == 0 && !self.is_touched.load(Ordering::Relaxed) {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// How to continue after an interruption; `None` if nothing was written.
    pub fn how_to_continue(&self) -> Option<String> {
        let is_touched = self.is_touched.load(Ordering::Relaxed) || self.old_bytes > 0;
        let path = self.path.display();
        match &self.kind {
            _ if !is_touched => None,
            Kind::New { .. } => Some(format!(
                "what was fetched is in {path}: run the command again to continue; delete that file, or use --restart, to \
                 start over"
            )),
            Kind::OldFile | Kind::OldDevice => {
                Some(format!("{path} is a mix of old and new: run the command again to continue"))
            }
            Kind::Device => Some(format!("{path} holds a part of the image: continue with --in-place")),
        }
    }
}
