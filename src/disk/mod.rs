//! An image as a disk: read at offsets, whole or one partition of it.
//!
//! It may be sparse and very large: only what is requested is read, and in total not more than a few times what a
//! kernel and its modules need.

pub mod ext_superblocks;
pub mod free_space;
pub mod fs;
pub mod input;
pub mod root;
pub mod stated;
pub mod superblock;
pub mod tree;

pub use stated::{Stated, stated};

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::partitions::{Partition, partitions};
use crate::system::directories;
use fs::file_system::FileSystem;
use fs::{erofs, ext, squash};
use input::Input;
use root::Root;

/// Maximum bytes read from an image, which bounds what a damaged file system can cause.
const READ_MAX_BYTES: u64 = 2 << 30;
/// Maximum number of partitions examined.
const PARTITIONS_MAX: usize = 128;
/// Supported file systems.
const KINDS: &str = "ext2, ext3, ext4, squashfs or erofs";
/// Functions that open each type; `None` if the file system is of another type.
const OPENERS: [Opener; 3] = [ext::open, squash::open, erofs::open];

type Opener = fn(Window) -> Result<Option<Box<dyn FileSystem>>, Error>;

/// A part of an image that is read at offsets.
pub struct Window {
    image: Arc<Input>,
    start: u64,
    bytes: u64,
    left: u64,
}

impl Window {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills `out` from `offset`.
    ///
    /// # Errors
    /// A read beyond the end of the part; more reading than any file system needs.
    pub fn read_at(&mut self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let length = out.len() as u64;
        if offset.checked_add(length).is_none_or(|end| end > self.bytes) {
            return Err(io::Error::other(format!("cut short: byte {offset} lies behind its end")));
        }
        self.left = self.left.checked_sub(length).ok_or_else(|| io::Error::other("damaged: reading it has no end"))?;
        self.image.read_exact_at(self.start + offset, out).map_err(|e| io::Error::other(e.to_string()))
    }
}

/// Checks that a file system of `bytes` bytes fits in `room`; `None` is a size that overflows.
///
/// # Errors
/// It does not fit: the image was cut short.
pub fn check_room(room: u64, bytes: Option<u64>) -> Result<(), Error> {
    if bytes.is_some_and(|bytes| bytes <= room) {
        return Ok(());
    }
    let bytes = bytes.map_or("more".to_owned(), |bytes| bytes.to_string());
    Err(Error::local(format!("cut short: its file system has {bytes} bytes, and there are only {room}")))
}

/// An image that can be read at any offset.
pub struct Disk {
    image: Arc<Input>,
    bytes: u64,
}

impl Disk {
    /// Opens an image. One that is a stream is unpacked to a temporary file.
    ///
    /// # Errors
    /// No image.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self::of(Arc::new(Input::open(path)?.seekable(&directories::temporary(), &|_| true)?)))
    }

    /// An opened image as a disk; of a stream only the start is seen.
    pub fn of(image: Arc<Input>) -> Self {
        Self { bytes: image.size().unwrap_or_default(), image }
    }

    /// Name of the image for messages.
    pub fn name(&self) -> &str {
        self.image.name()
    }

    /// The root file system: the image itself, or the first partition with the directories of a root.
    ///
    /// # Errors
    /// No file system that can be read; none with `/etc` and `/lib` or `/usr/lib`.
    pub fn root(&self) -> Result<Root, Error> {
        let name = self.name().to_owned();
        if let Some(tree) = self.tree(0, self.bytes)? {
            return Ok(Root::new(tree, name));
        }
        let partitions = self.partitions();
        for partition in &partitions {
            let bytes = partition.len.min(self.bytes.saturating_sub(partition.start));
            let Some(tree) = self.tree(partition.start, bytes)? else { continue };
            let root = Root::new(tree, name.clone());
            if root.is_directory("/etc")? && (root.is_directory("/lib")? || root.is_directory("/usr/lib")?) {
                return Ok(root);
            }
        }
        let what = match partitions.len() {
            0 => format!("no {KINDS} file system, and no partition table"),
            n => format!("none of its {n} partitions is a root file system of kind {KINDS}"),
        };
        Err(Error::local(format!("{name}: {what}; so no kernel can be taken out of it")))
    }

    /// The partitions, those of Linux types first.
    fn partitions(&self) -> Vec<Partition> {
        let mut window = self.window(0, self.bytes);
        let mut found = partitions(&mut |at, out| window.read_at(at, out).is_ok());
        found.truncate(PARTITIONS_MAX);
        found.sort_by_key(|partition| !partition.linux);
        found
    }

    fn window(&self, start: u64, bytes: u64) -> Window {
        Window { image: Arc::clone(&self.image), start, bytes, left: READ_MAX_BYTES }
    }

    /// The file system at `start`, if there is a supported one.
    fn tree(&self, start: u64, bytes: u64) -> Result<Option<Box<dyn FileSystem>>, Error> {
        for open in OPENERS {
            let found = open(self.window(start, bytes)).map_err(|e| e.about(&self.name()))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}
