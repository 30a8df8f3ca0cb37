//! Device-mapper: a snapshot of a device, which can be written to while the device itself stays as it is. Sources:
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
/// The interface that is spoken; kernels go on to understand it.
const VERSION: [u32; 3] = [4, 0, 0];
/// What a table or a status of one target may take, in bytes.
const PAYLOAD_BYTES: usize = 1024;
/// What is copied at the first write to it, in sectors: a page.
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

/// What the kernel reads and writes: the header, one target, and its words.
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

    /// The same with a table of one target from its first sector on.
    fn with_table(mut self, length: u64, kind: &str, words: &str) -> io::Result<Self> {
        // Both end with a byte of 0.
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

/// Makes a device `name` that reads as `origin` does until it is written to; `store` takes what is written. Where the store
/// holds a snapshot of this origin already, it is taken up again; where it begins with zeros, it is begun.
///
/// When the store is full, writing fails and reading goes on: a system whose root this is can still be shut down.
///
/// # Errors
/// When a device is not there, or the kernel has no snapshots.
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

/// What the kernel says about the one target of the device `name`; of a snapshot: sectors used, `/`, sectors there are, and
/// sectors of tables, or `Overflow`, or `Invalid`.
///
/// # Errors
/// When there is no such device.
pub fn status(name: &str) -> Result<String, DeviceError> {
    let ask = |control: File| {
        let mut request = Request::new(name)?;
        request.send(&control, TABLE_STATUS)?;
        let end = request.words.iter().position(|&byte| byte == 0).unwrap_or(PAYLOAD_BYTES);
        Ok(String::from_utf8_lossy(&request.words[..end]).into_owned())
    };
    ask(control()?).map_err(DeviceError::on("tell the status of", Path::new(name)))
}

/// Takes the device `name` away, once nobody uses it any more.
///
/// # Errors
/// When there is none, or somebody uses it.
pub fn remove(name: &str) -> Result<(), DeviceError> {
    let control = control()?;
    let removed = Request::new(name).and_then(|mut request| request.send(&control, DEV_REMOVE));
    removed.map_err(DeviceError::on("remove", Path::new(name)))
}

/// A block device as tables name it.
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
        // Both directions at once are the same bits on every machine.
        assert_eq!(DEV_CREATE as u64, 0xc138_fd03);
    }
}
