//! Device-mapper: a writable snapshot of a device, which leaves the device itself unchanged. Sources:
//! include/uapi/linux/dm-ioctl.h; Documentation/admin-guide/device-mapper/snapshot.rst.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};
use rustix::ioctl::{Opcode, opcode};

use super::ioctl::with_memory;
use super::{DeviceError, sectors};

const CONTROL: &str = "/dev/mapper/control";
const GROUP: u8 = 0xfd;
const DEV_CREATE: Opcode = opcode::read_write::<Header>(GROUP, 3);
const DEV_REMOVE: Opcode = opcode::read_write::<Header>(GROUP, 4);
const DEV_SUSPEND: Opcode = opcode::read_write::<Header>(GROUP, 6);
const TABLE_LOAD: Opcode = opcode::read_write::<Header>(GROUP, 9);
const TABLE_STATUS: Opcode = opcode::read_write::<Header>(GROUP, 12);
/// The interface version; later kernels still support it.
const VERSION: [u32; 3] = [4, 0, 0];
/// The largest table or status of one target, in bytes.
const PAYLOAD_BYTES: usize = 1024;
/// Copy-on-write chunk size, in sectors: one page.
const CHUNK_SECTORS: u32 = 8;

/// `struct dm_ioctl`.
#[repr(C)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// `struct dm_target_spec`.
#[repr(C)]
struct Target {
    sector_start: u64,
    length: u64,
    status: i32,
    next: u32,
    kind: [u8; 16],
}

/// What the kernel reads and writes: the header, one target, and its parameters.
#[repr(C)]
struct Request {
    header: Header,
    target: Target,
    words: [u8; PAYLOAD_BYTES],
}

impl Request {
    fn new(name: &str) -> io::Result<Self> {
        let mut its_name = [0; 128];
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.len() >= its_name.len() || bytes.contains(&b'/') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        its_name[..bytes.len()].copy_from_slice(bytes);
        let header = Header {
            version: VERSION,
            data_size: size_of::<Self>() as u32,
            data_start: size_of::<Header>() as u32,
            target_count: 0,
            open_count: 0,
            flags: 0,
            event_nr: 0,
            padding: 0,
            dev: 0,
            name: its_name,
            uuid: [0; 129],
            data: [0; 7],
        };
        let target = Target { sector_start: 0, length: 0, status: 0, next: 0, kind: [0; 16] };
        Ok(Self { header, target, words: [0; PAYLOAD_BYTES] })
    }

    /// Adds a table of one target, which begins at the first sector.
    fn with_table(mut self, length: u64, kind: &str, words: &str) -> io::Result<Self> {
        // Both are zero-terminated.
        if kind.len() >= self.target.kind.len() || words.len() >= PAYLOAD_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.header.target_count = 1;
        self.target.length = length;
        self.target.next = (size_of::<Target>() + PAYLOAD_BYTES) as u32;
        self.target.kind[..kind.len()].copy_from_slice(kind.as_bytes());
        self.words[..words.len()].copy_from_slice(words.as_bytes());
        Ok(self)
    }

    fn send(&mut self, control: &File, opcode: Opcode) -> io::Result<()> {
        // SAFETY: this begins with `struct dm_ioctl`, and `data_size` is the size of all of it.
        unsafe { with_memory(control.as_fd(), opcode, self) }.map(drop)
    }
}

fn control() -> Result<File, DeviceError> {
    let opened = OpenOptions::new().read(true).write(true).open(CONTROL);
    opened.map_err(DeviceError::on("open", Path::new(CONTROL)))
}

/// Creates a device `name` that reads like `origin` until it is written to; `store` takes the writes. If the store
/// already holds a snapshot of this origin, it is resumed; if it begins with zeros, a new one is created.
///
/// When the store is full, writes fail and reads continue: a system with this root can still be shut down.
///
/// # Errors
/// A device does not exist, or the kernel has no snapshot target.
pub fn snapshot(name: &str, origin: &Path, store: &Path) -> Result<PathBuf, DeviceError> {
    let length = sectors(origin)?;
    let words = format!("{} {} PO {CHUNK_SECTORS}", number(origin)?, number(store)?);
    let control = control()?;
    let make = || {
        let mut created = Request::new(name)?;
        created.send(&control, DEV_CREATE)?;
        let started = Request::new(name)?
            .with_table(length, "snapshot", &words)
            .and_then(|mut table| table.send(&control, TABLE_LOAD))
            .and_then(|()| Request::new(name)?.send(&control, DEV_SUSPEND));
        if started.is_err() {
            let _ = Request::new(name)?.send(&control, DEV_REMOVE);
        }
        started.map(|()| PathBuf::from(format!("/dev/dm-{}", minor(created.header.dev))))
    };
    make().map_err(DeviceError::on("make a snapshot of", origin))
}

/// Returns the kernel's status of the device `name`, which has one target. For a snapshot: sectors used, `/`, sectors
/// in total, and sectors of metadata; or `Overflow`, or `Invalid`.
///
/// # Errors
/// There is no such device.
pub fn status(name: &str) -> Result<String, DeviceError> {
    let ask = |control: File| {
        let mut request = Request::new(name)?;
        request.send(&control, TABLE_STATUS)?;
        let end = request.words.iter().position(|&byte| byte == 0).unwrap_or(PAYLOAD_BYTES);
        Ok(String::from_utf8_lossy(&request.words[..end]).into_owned())
    };
    ask(control()?).map_err(DeviceError::on("tell the status of", Path::new(name)))
}

/// Removes the device `name`, once it is no longer in use.
///
/// # Errors
/// There is no such device, or it is in use.
pub fn remove(name: &str) -> Result<(), DeviceError> {
    let control = control()?;
    let removed = Request::new(name).and_then(|mut request| request.send(&control, DEV_REMOVE));
    removed.map_err(DeviceError::on("remove", Path::new(name)))
}

/// The number of a block device in the format of tables.
fn number(device: &Path) -> Result<String, DeviceError> {
    let meta = fs::metadata(device).map_err(DeviceError::on("find", device))?;
    if !meta.file_type().is_block_device() {
        return Err(DeviceError::on("use as a block device", device)(io::ErrorKind::InvalidInput.into()));
    }
    Ok(format!("{}:{}", major(meta.rdev()), minor(meta.rdev())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_sizes_and_numbers() {
        assert_eq!((size_of::<Header>(), size_of::<Target>()), (312, 40));
        assert_eq!(size_of::<Request>(), 312 + 40 + PAYLOAD_BYTES);
        // Opcodes with both directions are the same on all architectures.
        assert_eq!(DEV_CREATE as u64, 0xc138_fd03);
    }
}
