//! Where new blocks wait until every mirror has taken them.
//!
//! A little memory first, then one nameless file on disk that vanishes with the process; when both are full, whoever
//! makes blocks waits until the slowest mirror has made room.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use rustix::fs::FallocateFlags;

use crate::index::BlockRow;

/// Bytes kept in memory before the file is used.
const MEMORY_BYTES: u64 = 24 << 20;

/// The room that waiting blocks may take.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    disk_max_bytes: u64,
    file: OnceLock<File>,
    used: Mutex<Used>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Used {
    memory: u64,
    disk: u64,
    end_of_file: u64,
}

/// A block that waits; dropping it frees its room.
#[derive(Debug)]
pub struct Spooled {
    row: BlockRow,
    room: Room,
    spool: Arc<Spool>,
}

#[derive(Debug)]
enum Room {
    Memory(Bytes),
    Disk { offset: u64 },
}

impl Spool {
    /// A spool whose file lies in `directory` and takes at most `disk_max_bytes`.
    pub fn new(directory: PathBuf, disk_max_bytes: u64) -> Arc<Self> {
        let (file, used, freed) = (OnceLock::new(), Mutex::default(), Condvar::new());
        Arc::new(Self { directory, disk_max_bytes, file, used, freed })
    }

    /// Takes in a block's file; waits while there is no room.
    ///
    /// # Errors
    /// A disk that cannot be written.
    pub fn put(self: &Arc<Self>, row: BlockRow, file: Vec<u8>) -> io::Result<Spooled> {
        let bytes = file.len() as u64;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if used.memory + bytes <= MEMORY_BYTES {
                used.memory += bytes;
                let room = Room::Memory(file.into());
                return Ok(Spooled { row, room, spool: Arc::clone(self) });
            }
            if used.disk + bytes <= self.disk_max_bytes {
                let offset = used.end_of_file;
                used.end_of_file += bytes;
                used.disk += bytes;
                drop(used);
                self.file()?.write_all_at(&file, offset)?;
                return Ok(Spooled { row, room: Room::Disk { offset }, spool: Arc::clone(self) });
            }
            used = self.freed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn file(&self) -> io::Result<&File> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        std::fs::create_dir_all(&self.directory)?;
        let file = tempfile::tempfile_in(&self.directory)?;
        Ok(self.file.get_or_init(|| file))
    }
}

impl Spooled {
    /// The row that lists the block.
    pub fn row(&self) -> &BlockRow {
        &self.row
    }

    /// The bytes of its file; blocks the thread for a read of the disk.
    ///
    /// # Errors
    /// A disk that cannot be read.
    pub fn read(&self) -> io::Result<Bytes> {
        match &self.room {
            Room::Memory(bytes) => Ok(bytes.clone()),
            Room::Disk { offset } => {
                let mut bytes = vec![0; self.row.zlib_bytes as usize];
                self.spool.file()?.read_exact_at(&mut bytes, *offset)?;
                Ok(bytes.into())
            }
        }
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        let bytes = u64::from(self.row.zlib_bytes);
        let mut used = self.spool.used.lock().unwrap_or_else(PoisonError::into_inner);
        match self.room {
            Room::Memory(_) => used.memory -= bytes,
            Room::Disk { offset } => {
                used.disk -= bytes;
                if let Some(file) = self.spool.file.get() {
                    // Where the file system cannot punch holes the file only stays longer than it needs to be.
                    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                    let _ = rustix::fs::fallocate(file, punch, offset, bytes);
                }
            }
        }
        drop(used);
        self.spool.freed.notify_all();
    }
}
