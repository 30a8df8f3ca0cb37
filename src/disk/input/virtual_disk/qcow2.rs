//! qcow2, versions 2 and 3, also with compressed clusters, backing files and an external data file.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use imago::file::File as Storage;
use imago::format::builder::FormatDriverBuilder;
use imago::format::gate::ImplicitOpenGate;
use imago::storage::Storage as _;
use imago::{FormatAccess, Mapping, StorageOpenOptions};

use super::super::file::{Needed, Stamp, needed};
use super::super::{CHUNK_BYTES, Part};
use super::outside;
use crate::error::Error;

/// Files that one image may consist of.
const FILES_MAX: usize = 64;
/// Memory for clusters that were read last.
const RECENT_MAX_BYTES: u64 = 8 << 20;
/// Fields of the header: version, offset of the backing file's name, cluster size, and the last byte of the incompatible
/// features with the bit of an external data file.
const VERSION: Range<usize> = 4..8;
const BACKING: Range<usize> = 8..16;
const CLUSTER_BITS: Range<usize> = 20..24;
const INCOMPATIBLE_LAST: usize = 79;
const EXTERNAL_DATA: u8 = 4;

/// An opened qcow2 image.
pub struct Qcow2 {
    access: FormatAccess<Storage>,
    cluster_bytes: u64,
    /// All files that it consists of.
    files: Vec<Opened>,
    /// Clusters that were read last, by their offsets: small reads lie near each other, and each would unpack its cluster.
    recent: Mutex<VecDeque<(u64, Vec<u8>)>>,
}

/// A file of the image.
struct Opened {
    file: File,
    path: PathBuf,
    stamp: Stamp,
}

/// Why an image cannot be read here: a feature that is not known, or damage.
pub type Failure = io::Error;

impl Qcow2 {
    /// Opens an image and what it refers to. The inner error is for an image that consists of one file, which another
    /// program may be able to read.
    ///
    /// # Errors
    /// A file outside its directory, or one that cannot be read.
    pub fn open(file: &File, path: &Path) -> Result<Result<Self, Failure>, Error> {
        let failed = |e: io::Error| Error::io(path, &e);
        let absolute = std::fs::canonicalize(path).map_err(failed)?;
        let directory = absolute.parent().unwrap_or(&absolute).to_owned();
        let files = Arc::new(Mutex::new(Vec::new()));
        let Header { cluster_bytes, refers_to_others } = Header::of(file).map_err(failed)?;
        let gate = Gate { directory, files: files.clone() };
        let storage = gate.opened(file.try_clone().map_err(failed)?, absolute).map_err(failed)?;
        let image = imago::qcow2::Qcow2::<Storage>::builder(storage);
        match image.open(gate) {
            Ok(image) => {
                let files = std::mem::take(&mut *files.lock().unwrap_or_else(PoisonError::into_inner));
                Ok(Ok(Self { access: FormatAccess::new(image), cluster_bytes, files, recent: Mutex::default() }))
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(outside(path, &e.to_string())),
            Err(e) if refers_to_others => Err(damaged(path, &e)),
            Err(e) => Ok(Err(e)),
        }
    }

    /// Size of the disk in bytes.
    pub fn bytes(&self) -> u64 {
        self.access.size()
    }

    /// Fills `out` from `offset`.
    ///
    /// # Errors
    /// A failed read, or one behind the end; a damaged image.
    pub fn read_exact_at(&self, path: &Path, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > self.bytes()) {
            return Err(damaged(path, &io::ErrorKind::UnexpectedEof.into()));
        }
        if out.len() as u64 >= self.cluster_bytes {
            return self.read_checked(path, offset, out);
        }
        let (mut at, mut rest) = (offset, out);
        while !rest.is_empty() {
            let cluster = at / self.cluster_bytes * self.cluster_bytes;
            let within = (at - cluster) as usize;
            let length = rest.len().min(self.cluster_bytes as usize - within);
            let (now, later) = rest.split_at_mut(length);
            self.with_cluster(path, cluster, &mut |bytes| now.copy_from_slice(&bytes[within..][..length]))?;
            (at, rest) = (at + length as u64, later);
        }
        Ok(())
    }

    /// Passes the bytes of a cluster to `take`, read at most once for a while.
    fn with_cluster(&self, path: &Path, cluster: u64, take: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let found = recent.iter().position(|(at, _)| *at == cluster).and_then(|place| recent.remove(place));
        let (_, bytes) = match found {
            Some(found) => found,
            None => {
                let mut bytes = vec![0; self.cluster_bytes.min(self.bytes() - cluster) as usize];
                self.read_checked(path, cluster, &mut bytes)?;
                (cluster, bytes)
            }
        };
        take(&bytes);
        recent.push_back((cluster, bytes));
        if recent.len() as u64 * self.cluster_bytes > RECENT_MAX_BYTES {
            recent.pop_front();
        }
        Ok(())
    }

    fn read_checked(&self, path: &Path, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let damaged = |e: io::Error| damaged(path, &e);
        let (mut at, end) = (offset, offset + out.len() as u64);
        while at < end {
            let (mapping, length) = self.access.get_mapping(at, end - at).map_err(damaged)?;
            self.check_there(&mapping, length, path)?;
            at += length.max(1);
        }
        self.access.read(out, offset).map_err(damaged)
    }

    /// How many of the `len` bytes from `offset` no cluster was written for.
    pub fn hole_at(&self, offset: u64, len: u64) -> u64 {
        match self.access.get_mapping(offset, len) {
            Ok((Mapping::Zero { .. } | Mapping::Eof { .. }, length)) => length,
            _ => 0,
        }
    }

    /// Passes all parts in order, except for what lies `elsewhere`; what no cluster was written for is a hole.
    ///
    /// # Errors
    /// A failed read, a damaged image, a file that changed meanwhile.
    pub fn read(
        &self,
        path: &Path,
        elsewhere: &dyn Fn(u64) -> Option<Range<u64>>,
        part: &mut dyn FnMut(Part<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let damaged = |e: io::Error| damaged(path, &e);
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut at = 0;
        while at < self.bytes() {
            let needed = match needed(elsewhere(at), at, self.bytes()) {
                Needed::Skip(bytes) => {
                    part(Part::Skipped(bytes))?;
                    at += bytes;
                    continue;
                }
                Needed::Read(bytes) => bytes,
            };
            let (mapping, length) = self.access.get_mapping(at, needed).map_err(damaged)?;
            match mapping {
                _ if length == 0 => return Err(damaged(io::ErrorKind::UnexpectedEof.into())),
                Mapping::Zero { .. } | Mapping::Eof { .. } => {
                    part(Part::Hole(length))?;
                    at += length;
                }
                mapping => {
                    self.check_there(&mapping, length, path)?;
                    let now = &mut buffer[..length.min(CHUNK_BYTES as u64) as usize];
                    self.access.read(&mut *now, at).map_err(damaged)?;
                    part(Part::Data(now))?;
                    at += now.len() as u64;
                }
            }
        }
        self.files.iter().try_for_each(|opened| opened.stamp.check(&opened.file, &opened.path))
    }

    /// Checks that the file reaches to the last cluster of a run of data: what lies behind its end would read as zeros.
    fn check_there(&self, mapping: &Mapping<'_, Storage>, length: u64, path: &Path) -> Result<(), Error> {
        let Mapping::Raw { storage, offset, .. } = mapping else { return Ok(()) };
        let size = storage.size().map_err(|e| damaged(path, &e))?;
        let last = offset.saturating_add(length).saturating_sub(self.cluster_bytes.min(length));
        if last < size {
            return Ok(());
        }
        let message = format!("{}: qcow2: there is data at byte {last} of a file of {size} bytes", path.display());
        Err(Error::local(message).hint("the file was cut off; check where it comes from"))
    }
}

fn damaged(path: &Path, e: &io::Error) -> Error {
    Error::local(format!("{}: qcow2: {e}", path.display()))
        .hint("check it: qemu-img check FILE, and qemu-img info --backing-chain FILE for the files that it needs")
}

/// What is read of the header beside what the library reads.
struct Header {
    /// The unit in which space is allocated, in bytes; at least the smallest that is allowed.
    cluster_bytes: u64,
    /// Whether a backing file or an external data file is named.
    refers_to_others: bool,
}

impl Header {
    fn of(file: &File) -> io::Result<Self> {
        let mut bytes = [0; INCOMPATIBLE_LAST + 1];
        file.read_exact_at(&mut bytes, 0)?;
        let has_data_file = bytes[VERSION] != [0, 0, 0, 2] && bytes[INCOMPATIBLE_LAST] & EXTERNAL_DATA != 0;
        let cluster_bits = bytes[CLUSTER_BITS].iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte));
        Ok(Self {
            cluster_bytes: 1 << cluster_bits.clamp(9, 21),
            refers_to_others: has_data_file || bytes[BACKING].iter().any(|&byte| byte != 0),
        })
    }
}

/// Opens what an image refers to: regular files in its directory alone.
#[derive(Clone)]
struct Gate {
    directory: PathBuf,
    files: Arc<Mutex<Vec<Opened>>>,
}

impl Gate {
    fn opened(&self, file: File, path: PathBuf) -> io::Result<Storage> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() == FILES_MAX {
            return Err(io::Error::other(format!("more than {FILES_MAX} backing files")));
        }
        let storage = Storage::from_open_file(file.try_clone()?, StorageOpenOptions::new().filename(&path))?;
        files.push(Opened { stamp: Stamp::of(&file)?, file, path });
        Ok(storage)
    }
}

impl ImplicitOpenGate<Storage> for Gate {
    fn open_format<F: FormatDriverBuilder<Storage>>(&mut self, builder: F) -> io::Result<FormatAccess<Storage>> {
        builder.open(self.clone()).map(FormatAccess::new)
    }

    fn open_storage(&mut self, options: StorageOpenOptions) -> io::Result<Storage> {
        let named = options.get_filename().map(Path::to_owned).unwrap_or_default();
        let path = std::fs::canonicalize(&named)?;
        if path.parent() != Some(&*self.directory) || !path.is_file() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, named.display().to_string()));
        }
        self.opened(File::open(&path)?, path)
    }
}
