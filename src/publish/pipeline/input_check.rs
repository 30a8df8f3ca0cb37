//! Inputs that cannot be right although they are raw images: a device that is written to, an image that was cut off.
//!
//! Refused unless the user says `--force`: what a client would boot from is damaged in a way that no digest shows.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use crate::disk::Stated;
use crate::error::Error;

/// Loop devices and disks have whole sectors.
const SECTOR_BYTES: u64 = 512;

/// Opens a block device again so that nobody mounts it meanwhile, unless nobody can write to it.
///
/// # Errors
/// It is mounted or otherwise in use.
pub fn claim(device: File, name: &str) -> Result<File, Error> {
    let failed = |e: io::Error| Error::local(format!("{name}: {e}"));
    let meta = device.metadata().map_err(failed)?;
    if is_read_only(meta.rdev()) {
        return Ok(device);
    }
    // By its descriptor, so that it is the same device whatever its path leads to now.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&device));
    let exclusive = rustix::fs::OFlags::EXCL.bits() as i32;
    match File::options().read(true).custom_flags(exclusive).open(path) {
        Ok(claimed) => Ok(claimed),
        Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
            let message =
                format!("{name}: in use: it is mounted, or part of something else, and may change as it is read");
            Err(Error::local(message)
                .hint("unmount it, or take a snapshot and publish that; --force publishes it all the same"))
        }
        // Without /proc, say, it cannot be known.
        Err(_) => Ok(device),
    }
}

/// What the kernel says of a device: no writer can open it.
fn is_read_only(device: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let said = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/ro"));
    said.is_ok_and(|text| text.trim() == "1")
}

/// Compares the bytes that came with those that the image itself states.
///
/// # Errors
/// Some are missing.
pub fn refuse_cut_off(name: &str, bytes: u64, stated: Option<Stated>) -> Result<(), Error> {
    let Some(stated) = stated.filter(|stated| stated.bytes > bytes) else { return Ok(()) };
    let what = match stated.file_system {
        Some(file_system) => format!("the {file_system} file system in it has {} bytes", stated.bytes),
        None => format!("its partition table reaches to byte {}", stated.bytes),
    };
    let message = format!("{name}: {what}, only {bytes} came: was the input cut off?");
    Err(Error::local(message).hint("nothing was published; look at where it comes from, or say --force to publish it"))
}

/// What is to be said of an image whose last sector is not whole.
pub fn odd_end(name: &str, bytes: u64) -> Option<String> {
    let rest = bytes % SECTOR_BYTES;
    let said =
        || format!("{name}: {bytes} bytes are no multiple of {SECTOR_BYTES}; loop devices lose the last {rest} bytes");
    (rest > 0).then(said)
}
