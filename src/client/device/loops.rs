//! Loop devices: a file as a block device. Source: loop(4), include/uapi/linux/loop.h.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::ioctl::Opcode;

use super::DeviceError;
use super::ioctl::{with_memory, with_number};

const CONTROL: &str = "/dev/loop-control";
// Plain numbers, identical on all architectures.
const LOOP_SET_FD: Opcode = 0x4c00;
const LOOP_CLR_FD: Opcode = 0x4c01;
const LOOP_SET_STATUS64: Opcode = 0x4c04;
const LOOP_SET_DIRECT_IO: Opcode = 0x4c08;
const LOOP_CONFIGURE: Opcode = 0x4c0a;
const LOOP_CTL_GET_FREE: Opcode = 0x4c82;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
/// Another process may take the free device first, repeatedly.
const TRIES: u32 = 16;

/// Options of a loop device.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoopOptions {
    /// Whether the device is writable.
    pub write: bool,
    /// Whether to use direct I/O, which bypasses the page cache. A file on FUSE is then read with many requests in
    /// parallel, and its data is not cached twice.
    pub direct: bool,
    /// Offset in the file, in bytes; a multiple of 512.
    pub offset: u64,
    /// Size in bytes, a multiple of 512; 0 for everything up to the end.
    pub size: u64,
    /// Whether the device is detached when nobody has it open any more.
    pub autoclear: bool,
}

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

impl Info {
    fn of(file: &Path, options: LoopOptions) -> Self {
        let mut file_name = [0; 64];
        let shown = file.as_os_str().as_encoded_bytes();
        // Shown in lists of devices; the last byte stays 0.
        let shown = &shown[..shown.len().min(63)];
        file_name[..shown.len()].copy_from_slice(shown);
        let read_only = if options.write { 0 } else { LO_FLAGS_READ_ONLY };
        let direct = if options.direct { LO_FLAGS_DIRECT_IO } else { 0 };
        let autoclear = if options.autoclear { LO_FLAGS_AUTOCLEAR } else { 0 };
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: options.offset,
            size_limit: options.size,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: read_only | direct | autoclear,
            file_name,
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

/// Attaches `file` to a free loop device; returns its path.
///
/// # Errors
/// The file cannot be opened, or the kernel has no loop device to give.
pub fn attach(file: &Path, options: LoopOptions) -> Result<PathBuf, DeviceError> {
    hold(file, options).map(|(path, _)| path)
}

/// Like [`attach`]; the device stays open until the file that is returned beside its path is dropped.
///
/// # Errors
/// As for [`attach`].
pub fn hold(file: &Path, options: LoopOptions) -> Result<(PathBuf, File), DeviceError> {
    let backing = OpenOptions::new().read(true).write(options.write).open(file);
    let backing = backing.map_err(DeviceError::on("open", file))?;
    let control = OpenOptions::new().read(true).write(true).open(CONTROL);
    let control = control.map_err(DeviceError::on("open", Path::new(CONTROL)))?;
    for tries in 1.. {
        let number = with_number(control.as_fd(), LOOP_CTL_GET_FREE, 0);
        let number = number.map_err(DeviceError::on("get a free device from", Path::new(CONTROL)))?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = OpenOptions::new().read(true).write(options.write).open(&path);
        let device = device.map_err(DeviceError::on("open", &path))?;
        match configure(&device, &backing, &Info::of(file, options)) {
            Err(e) if Errno::from_io_error(&e) == Some(Errno::BUSY) && tries < TRIES => {}
            done => return done.map(|()| (path, device)).map_err(DeviceError::on("make a device of", file)),
        }
    }
    unreachable!("the last try returns")
}

/// In one call, or in three on kernels before 5.8.
fn configure(device: &File, backing: &File, info: &Info) -> io::Result<()> {
    let fd = backing.as_raw_fd();
    let mut config = Config { fd: fd as u32, block_size: 0, info: *info, reserved: [0; 8] };
    // SAFETY: this is `struct loop_config`, and `fd` is open.
    match unsafe { with_memory(device.as_fd(), LOOP_CONFIGURE, &mut config) } {
        Err(e) if Errno::from_io_error(&e) == Some(Errno::INVAL) => {}
        done => return done.map(drop),
    }
    with_number(device.as_fd(), LOOP_SET_FD, fd)?;
    let mut info = *info;
    // The kernel derives read-only from how both were opened; direct I/O has a call of its own.
    info.flags &= LO_FLAGS_AUTOCLEAR;
    // SAFETY: this is `struct loop_info64`.
    let set = unsafe { with_memory(device.as_fd(), LOOP_SET_STATUS64, &mut info) };
    if let Err(e) = set {
        let _ = with_number(device.as_fd(), LOOP_CLR_FD, 0);
        return Err(e);
    }
    if config.info.flags & LO_FLAGS_DIRECT_IO != 0 {
        // Without direct I/O the device works too, only slower.
        let _ = with_number(device.as_fd(), LOOP_SET_DIRECT_IO, 1);
    }
    Ok(())
}

/// Detaches the file from `device`, once it is no longer in use.
///
/// # Errors
/// Not a loop device, or it has no file.
pub fn detach(device: &Path) -> Result<(), DeviceError> {
    let opened = File::open(device).map_err(DeviceError::on("open", device))?;
    with_number(opened.as_fd(), LOOP_CLR_FD, 0).map_err(DeviceError::on("detach", device))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernels_sizes() {
        assert_eq!(size_of::<super::Info>(), 232);
        assert_eq!(size_of::<super::Config>(), 304);
    }
}
