//! The spool: new blocks wait here until they are uploaded to every mirror.
//!
//! It uses a little memory first, then one unnamed temporary file that vanishes with the process. When both are full,
//! the spool exerts back-pressure: the worker threads wait until the slowest mirror has made room or is left behind.
//! A disk that fails is treated as full.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::FallocateFlags;

use crate::format::block::BlockRow;

/// Bytes kept in memory before the file is used.
const MEMORY_BYTES: u64 = 24 << 20;

/// Interval at which a waiting thread calls `full`.
const WAIT: Duration = Duration::from_millis(100);

/// Bounded buffer for blocks that wait for upload.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    file: OnceLock<File>,
    used: Mutex<Used>,
    freed: Condvar,
}

#[derive(Debug)]
struct Used {
    memory: u64,
    disk: u64,
    disk_max: u64,
    end_of_file: u64,
}

/// A spooled block; dropping it frees its room.
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
    /// A spool whose file is in `directory` and takes at most `disk_max_bytes`.
    pub fn new(directory: PathBuf, disk_max_bytes: u64) -> Arc<Self> {
        let used = Mutex::new(Used { memory: 0, disk: 0, disk_max: disk_max_bytes, end_of_file: 0 });
        Arc::new(Self { directory, file: OnceLock::new(), used, freed: Condvar::new() })
    }

    /// Stores a compressed block; while there is no room, it waits and calls `full` repeatedly. `None` once `full`
    /// returns false.
    pub fn put(self: &Arc<Self>, row: BlockRow, file: Vec<u8>, full: &dyn Fn() -> bool) -> Option<Spooled> {
        let bytes = file.len() as u64;
        let spool = Arc::clone(self);
        let mut used = self.used();
        loop {
            if used.memory + bytes <= MEMORY_BYTES {
                used.memory += bytes;
                return Some(Spooled { row, room: Room::Memory(file.into()), spool });
            }
            if used.disk + bytes <= used.disk_max {
                let offset = used.end_of_file;
                used.end_of_file += bytes;
                used.disk += bytes;
                drop(used);
                if self.write(&file, offset).is_ok() {
                    return Some(Spooled { row, room: Room::Disk { offset }, spool });
                }
                used = self.used();
                used.disk -= bytes;
                used.disk_max = used.disk;
                self.punch(offset, bytes);
                continue;
            }
            used = self.freed.wait_timeout(used, WAIT).unwrap_or_else(PoisonError::into_inner).0;
            drop(used);
            if !full() {
                return None;
            }
            used = self.used();
        }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file()?.write_all_at(bytes, offset)
    }

    /// Frees disk space. On a file system without hole punching, the file just stays larger than needed.
    fn punch(&self, offset: u64, bytes: u64) {
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if let Some(file) = self.file.get() {
            let _ = rustix::fs::fallocate(file, punch, offset, bytes);
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
    /// The block's index row.
    pub fn row(&self) -> &BlockRow {
        &self.row
    }

    /// The compressed block; a disk read blocks the thread.
    ///
    /// # Errors
    /// A failed disk read.
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
                self.spool.punch(offset, bytes);
            }
        }
        drop(used);
        self.spool.freed.notify_all();
    }
}
