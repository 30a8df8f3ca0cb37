//! The image as the user gives it: a raw file, a block device or standard input, plain or compressed, or a virtual disk.
//! Read once from start to end.

mod android_sparse;
mod check;
mod compression;
mod file;
mod foreign;
mod stream;
mod unpack;
mod virtual_disk;
mod xz_blocks;

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::superblock::read_from;
use super::{Stated, stated};
use crate::error::Error;
use crate::format::index::IMAGE_MAX_BYTES;
use compression::Compression;
use file::Stamp;
use stream::Stream;
use virtual_disk::{Opened, Qcow2};

pub use check::{free_space, much_smaller, odd_end, unclean};

/// Bytes per read.
const CHUNK_BYTES: usize = 1 << 20;

/// A run of data or a hole.
pub enum Part<'a> {
    /// These bytes.
    Data(&'a [u8]),
    /// A hole of this many bytes, which was not read.
    Hole(u64),
    /// This many bytes that are not needed, and were not read.
    Skipped(u64),
}

impl Part<'_> {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Part::Data(bytes) => bytes.len() as u64,
            Part::Hole(bytes) | Part::Skipped(bytes) => *bytes,
        }
    }
}

/// An opened image.
pub struct Input {
    name: String,
    source: Source,
    /// Minimum size that the image itself states, if that is to be checked.
    stated: Option<Stated>,
}

enum Source {
    File { file: File, path: PathBuf, size: u64, stamp: Option<Stamp> },
    Qcow2(Box<Qcow2>, PathBuf),
    Stream(Stream),
}

impl Input {
    /// Opens `path`, or standard input for `-`.
    ///
    /// # Errors
    /// Not an image: a directory, pipe, terminal, empty file, archive, or a virtual disk.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (name, source) = match path == Path::new("-") {
            true => ("-".into(), Source::Stream(Stream::stdin()?)),
            false => (path.display().to_string(), open_file(path)?),
        };
        let input = Self { name, source, stated: None };
        if let Some(size) = input.size() {
            input.check_size(size)?;
        }
        Ok(input)
    }

    /// The first `bytes` of a file or device as they are, whatever they look like. It may be changed later.
    pub fn raw(file: File, path: &Path, bytes: u64) -> Self {
        let source = Source::File { file, path: path.to_owned(), size: bytes, stamp: None };
        Self { name: path.display().to_string(), source, stated: None }
    }

    /// The same with another name for messages.
    pub fn named(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// Checks that the image is complete and not in use. Whether a stream is complete is known only at its end, so
    /// [`Input::read`] fails then.
    ///
    /// # Errors
    /// A device in use; fewer bytes than the image itself states.
    pub fn complete(mut self) -> Result<Self, Error> {
        self.stated = stated(&mut |at, out| self.read_at(at, out));
        if let Some(size) = self.size() {
            check::refuse_cut_off(&self.name, size, self.stated)?;
        }
        if let Source::File { file, path, size, stamp: None } = self.source {
            let file = check::claim(file, &self.name)?;
            self.source = Source::File { file, path, size, stamp: None };
        }
        Ok(self)
    }

    /// Name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Size in bytes, if known before reading.
    pub fn size(&self) -> Option<u64> {
        match &self.source {
            Source::File { size, .. } => Some(*size),
            Source::Qcow2(disk, _) => Some(disk.bytes()),
            Source::Stream(_) => None,
        }
    }

    /// Whether it can be read more than once.
    pub fn is_repeatable(&self) -> bool {
        !matches!(&self.source, Source::Stream(stream) if !stream.is_file())
    }

    /// Whether it can be read at any offset, at any time.
    pub fn is_seekable(&self) -> bool {
        !matches!(self.source, Source::Stream(_))
    }

    /// Fills `out` from `offset`; of a stream only its start is available.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> bool {
        match &self.source {
            Source::Stream(stream) => read_from(&stream.prefix, offset, out),
            _ => self.read_exact_at(offset, out).is_ok(),
        }
    }

    /// Fills `out` from `offset` of an image that can be read at any offset.
    ///
    /// # Errors
    /// A failed read, or one behind the end; a stream.
    pub fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        match &self.source {
            Source::File { file, path, .. } => file.read_exact_at(out, offset).map_err(|e| Error::io(path, &e)),
            Source::Qcow2(disk, path) => disk.read_exact_at(path, offset, out),
            Source::Stream(_) => Err(Error::local(format!("{}: cannot be read at any offset", self.name))),
        }
    }

    /// How many of the `len` bytes from `offset` are in a hole.
    pub fn hole_at(&self, offset: u64, len: u64) -> u64 {
        match &self.source {
            Source::File { file, size, .. } => file::hole_at(file, offset, *size).min(len),
            Source::Qcow2(disk, _) => disk.hole_at(offset, len),
            Source::Stream(_) => 0,
        }
    }

    /// Reads the image and passes its parts to `part` in order. `elsewhere` tells the next range, at or behind an offset,
    /// that need not be read; it is asked again after each part, and not for a stream. Returns the size of the image in
    /// bytes.
    ///
    /// # Errors
    /// A failed read, a file that changed meanwhile, a stream that ended early.
    pub fn read(
        &self,
        elsewhere: &dyn Fn(u64) -> Option<Range<u64>>,
        part: &mut dyn FnMut(Part<'_>) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        match &self.source {
            Source::File { file, path, size, stamp } => {
                let read = file::read(file, path, *size, elsewhere, part);
                // Said first: a file that shrinks cannot be read either.
                stamp.as_ref().map_or(Ok(()), |before| before.check(file, path))?;
                read.map(|()| *size)
            }
            Source::Qcow2(disk, path) => disk.read(path, elsewhere, part).map(|()| disk.bytes()),
            Source::Stream(stream) => {
                let size = stream.read(part)?;
                self.check_size(size)?;
                check::refuse_cut_off(&self.name, size, self.stated).map(|()| size)
            }
        }
    }

    fn check_size(&self, size: u64) -> Result<(), Error> {
        match size {
            0 => Err(Error::local(format!("{}: empty, there is no image in it", self.name))),
            1..=IMAGE_MAX_BYTES => Ok(()),
            _ => Err(Error::local(format!("{}: {size} bytes, at most {IMAGE_MAX_BYTES} are possible", self.name))),
        }
    }
}

fn open_file(path: &Path) -> Result<Source, Error> {
    let name = path.display().to_string();
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let opened = File::options().read(true).custom_flags(nonblocking).open(path);
    let is_url = ["http://", "https://"].iter().any(|scheme| name.starts_with(scheme));
    let download = is_url.then(|| format!("images are files: curl -sf {name} | hfl publish - --name NAME ..."));
    let mut file = opened.map_err(|e| Error::io(path, &e).hint_if(download))?;
    let kind = file.metadata().map_err(|e| Error::io(path, &e))?.file_type();
    let refused = |what: &str| Err(Error::local(format!("{name}: {what}, not an image")));
    if kind.is_dir() {
        return refused("a directory")
            .map_err(|e: Error| e.hint("make an image of it: hfl publish --fs erofs, ext4 or squashfs"));
    }
    if kind.is_fifo() || kind.is_socket() {
        return refused("a pipe or socket")
            .map_err(|e: Error| e.hint(format!("read it as standard input: hfl publish - --name NAME ... < {name}")));
    }
    if kind.is_char_device() {
        return refused("a character device");
    }
    let size = file.seek(SeekFrom::End(0)).map_err(|e| Error::io(path, &e))?;
    let mut prefix = vec![0; foreign::PREFIX_BYTES.min(size as usize)];
    file.read_exact_at(&mut prefix, 0).map_err(|e| Error::io(path, &e))?;
    let stamp = |file: &File| Stamp::of(file).map_err(|e| Error::io(path, &e));
    if let Some(format) = virtual_disk::Format::of(&prefix).filter(|_| kind.is_file()) {
        return Ok(match virtual_disk::open(format, file, path)? {
            Opened::Qcow2(disk) => Source::Qcow2(disk, path.to_owned()),
            Opened::Raw(file, size) => Source::File { stamp: Some(stamp(&file)?), file, path: path.to_owned(), size },
        });
    }
    foreign::refuse(&name, &prefix, None)?;
    let stamp = if kind.is_file() { Some(stamp(&file)?) } else { None };
    Ok(match Compression::of(&prefix) {
        Some(compression) => Source::Stream(Stream::file(file, path, compression, stamp)?),
        None => Source::File { file, path: path.to_owned(), size, stamp },
    })
}
