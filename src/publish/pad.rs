//! A temporary file of byte strings that are too many for memory. It has no name, and vanishes with the process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// The file.
#[derive(Debug)]
pub struct Pad {
    file: File,
    end: AtomicU64,
}

/// Where a byte string is.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    offset: u64,
    bytes: u32,
}

impl Placed {
    /// Its length in bytes.
    pub fn bytes(self) -> u32 {
        self.bytes
    }
}

impl Pad {
    /// A file in `directory`, which is created if it is missing.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn new(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        Ok(Self { file: tempfile::tempfile_in(directory)?, end: AtomicU64::new(0) })
    }

    /// Adds a byte string.
    ///
    /// # Errors
    /// A failed write.
    pub fn add(&self, bytes: &[u8]) -> io::Result<Placed> {
        let placed = Placed { offset: self.end.fetch_add(bytes.len() as u64, Relaxed), bytes: bytes.len() as u32 };
        self.file.write_all_at(bytes, placed.offset)?;
        Ok(placed)
    }

    /// Appends a byte string to `out`.
    ///
    /// # Errors
    /// A failed read.
    pub fn read(&self, placed: Placed, out: &mut Vec<u8>) -> io::Result<()> {
        let start = out.len();
        out.resize(start + placed.bytes as usize, 0);
        self.file.read_exact_at(&mut out[start..], placed.offset)
    }
}
