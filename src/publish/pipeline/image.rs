//! The input image: a regular file, a block device, or standard input, read once from start to end.
//!
//! Holes of a sparse file are located with `SEEK_DATA` and `SEEK_HOLE` and are never read. A file that changes while
//! it is read is detected by comparing its size and times before and after.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{foreign, input_check};
use crate::disk::{Stated, stated};
use crate::error::Error;
use crate::format::index::IMAGE_MAX_BYTES;
use crate::split::{Cut, Rule, Splitter, choose};

/// Bytes per read.
const CHUNK_BYTES: usize = 1 << 20;
/// Data ranges are widened to whole pages, so that no page is part hole, part data.
const PAGE_BYTES: u64 = 4096;

/// A run of data or a hole.
enum Part<'a> {
    /// These bytes.
    Data(&'a [u8]),
    /// A hole of this many bytes, which was not read.
    Hole(u64),
}

impl Part<'_> {
    fn bytes(&self) -> u64 {
        match self {
            Part::Data(bytes) => bytes.len() as u64,
            Part::Hole(bytes) => *bytes,
        }
    }
}

/// An opened image.
pub struct Image {
    name: String,
    input: Input,
    /// Minimum size that the image itself states, if that is to be checked.
    stated: Option<Stated>,
}

enum Input {
    File { file: File, path: PathBuf, size: u64, stamp: Option<Stamp> },
    Stream { prefix: Vec<u8> },
}

/// Metadata that changes when a file is modified.
#[derive(PartialEq, Eq, Clone, Copy)]
struct Stamp {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        let (modified, changed) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
        Ok(Self { size: meta.len(), modified, changed })
    }
}

impl Image {
    /// Opens `path`, or standard input for `-`.
    ///
    /// # Errors
    /// Not a raw image: a directory, pipe, terminal, empty file or compressed file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let image = if path == Path::new("-") { Self::stdin()? } else { Self::file(path)? };
        if let Some(size) = image.size() {
            image.check_size(size)?;
        }
        Ok(image)
    }

    fn stdin() -> Result<Self, Error> {
        let mut prefix = Vec::new();
        let read = io::stdin().lock().take(CHUNK_BYTES as u64).read_to_end(&mut prefix);
        read.map_err(|e| Error::io(Path::new("-"), &e))?;
        if prefix.is_empty() {
            return Err(Error::local("-: standard input is empty, there is no image in it"));
        }
        foreign::refuse("-", &prefix)?;
        Ok(Self { name: "-".into(), input: Input::Stream { prefix }, stated: None })
    }

    fn file(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let opened = File::options().read(true).custom_flags(nonblocking).open(path);
        let mut file = opened.map_err(|e| Error::io(path, &e))?;
        let kind = file.metadata().map_err(|e| Error::io(path, &e))?.file_type();
        let refused = |what: &str| Err(Error::local(format!("{name}: {what}, not an image")));
        if kind.is_dir() {
            return refused("a directory")
                .map_err(|e: Error| e.hint(format!("make an image of it: mke2fs -t ext4 -d {name} IMAGE.img 2G")));
        }
        if kind.is_fifo() || kind.is_socket() {
            return refused("a pipe or socket").map_err(|e: Error| {
                e.hint(format!("read it as standard input: hfl publish - --name NAME ... < {name}"))
            });
        }
        if kind.is_char_device() {
            return refused("a character device");
        }
        let size = file.seek(SeekFrom::End(0)).map_err(|e| Error::io(path, &e))?;
        let mut prefix = vec![0; foreign::PREFIX_BYTES.min(size as usize)];
        file.read_exact_at(&mut prefix, 0).map_err(|e| Error::io(path, &e))?;
        foreign::refuse(&name, &prefix)?;
        let stamp = if kind.is_file() { Some(Stamp::of(&file).map_err(|e| Error::io(path, &e))?) } else { None };
        Ok(Self { name, input: Input::File { file, path: path.to_owned(), size, stamp }, stated: None })
    }

    /// Checks that the image is complete and not in use. Whether standard input is complete is known only at its end,
    /// so [`Image::split`] fails then.
    ///
    /// # Errors
    /// A device in use; fewer bytes than the image itself states.
    pub fn complete(mut self) -> Result<Self, Error> {
        self.stated = stated(&mut |at, out| self.read_at(at, out));
        if let Some(size) = self.size() {
            input_check::refuse_cut_off(&self.name, size, self.stated)?;
        }
        if let Input::File { file, path, size, stamp: None } = self.input {
            let file = input_check::claim(file, &self.name)?;
            self.input = Input::File { file, path, size, stamp: None };
        }
        Ok(self)
    }

    /// Name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn check_size(&self, size: u64) -> Result<(), Error> {
        match size {
            0 => Err(Error::local(format!("{}: empty, there is no image in it", self.name))),
            1..=IMAGE_MAX_BYTES => Ok(()),
            _ => Err(Error::local(format!("{}: {size} bytes, at most {IMAGE_MAX_BYTES} are possible", self.name))),
        }
    }

    /// Size in bytes, if known before reading.
    pub fn size(&self) -> Option<u64> {
        match &self.input {
            Input::File { size, .. } => Some(*size),
            Input::Stream { .. } => None,
        }
    }

    /// Chooses the split rule that suits the image's content.
    pub fn choose_rule(&self) -> Rule {
        choose(self.size(), &mut |at, out| self.read_at(at, out))
    }

    /// Fills `out` from `offset` before the image is read; of standard input only its start is available.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> bool {
        match &self.input {
            Input::File { file, .. } => file.read_exact_at(out, offset).is_ok(),
            Input::Stream { prefix } => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let part = prefix.get(start..).and_then(|p| p.get(..out.len()));
                part.map(|p| out.copy_from_slice(p)).is_some()
            }
        }
    }

    /// Reads the image once and passes its parts to `part` in order. Returns its size in bytes.
    fn read(&self, part: &mut dyn FnMut(Part<'_>) -> Result<(), Error>) -> Result<u64, Error> {
        match &self.input {
            Input::File { file, path, size, stamp } => {
                let read = read_file(file, path, *size, part);
                if let Some(before) = stamp {
                    let after = Stamp::of(file).map_err(|e| Error::io(path, &e))?;
                    if *before != after {
                        return Err(self.changed());
                    }
                }
                read.map(|()| *size)
            }
            Input::Stream { prefix } => {
                let size = read_stream(prefix, part)?;
                self.check_size(size)?;
                input_check::refuse_cut_off(&self.name, size, self.stated).map(|()| size)
            }
        }
    }

    /// Reads the image once and cuts it by `rule`; returns its size in bytes. `passed` receives the bytes of each
    /// part read.
    ///
    /// # Errors
    /// A failed read; a file that changed meanwhile;
    /// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) once `stop` returns true.
    pub fn split(
        &self,
        rule: Rule,
        stop: &dyn Fn() -> bool,
        passed: &dyn Fn(u64),
        out: &mut dyn FnMut(Cut),
    ) -> Result<u64, Error> {
        let mut splitter = Splitter::new(rule);
        let size = self.read(&mut |part| {
            if stop() {
                return Err(Error::interrupted());
            }
            match part {
                Part::Data(bytes) => splitter.data(bytes, out),
                Part::Hole(bytes) => splitter.hole(bytes, out),
            }
            passed(part.bytes());
            Ok(())
        })?;
        splitter.finish(out);
        Ok(size)
    }

    fn changed(&self) -> Error {
        Error::local(format!("{}: changed while it was read; nothing was published", self.name))
            .hint("stop what writes to it, or publish a snapshot or a copy of it")
    }
}

fn read_file(
    file: &File,
    path: &Path,
    size: u64,
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
            let length = (data.end - at).min(CHUNK_BYTES as u64) as usize;
            file.read_exact_at(&mut buffer[..length], at).map_err(fail)?;
            part(Part::Data(&buffer[..length]))?;
            at += length as u64;
        }
    }
    Ok(())
}

/// The next data range at or after `at`, widened to whole pages; empty at `size` if only a hole is left.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<std::ops::Range<u64>> {
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

fn read_stream(prefix: &[u8], part: &mut dyn FnMut(Part<'_>) -> Result<(), Error>) -> Result<u64, Error> {
    let mut size = prefix.len() as u64;
    part(Part::Data(prefix))?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut input = io::stdin().lock();
    loop {
        let length = match input.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(length) => length,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::io(Path::new("-"), &e)),
        };
        part(Part::Data(&buffer[..length]))?;
        size += length as u64;
    }
}
