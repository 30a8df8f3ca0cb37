//! Detects unusable images: a device in use, a truncated image, a file system that was not unmounted.
//!
//! Refused without `--force`: clients would boot from damaged data, and no digest would reveal it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use crate::disk::Stated;
use crate::disk::ext_superblocks::ext_superblocks;
use crate::disk::superblock::ext_name;
use crate::error::Error;
use crate::partitions::ReadAt;

/// Sector size of disks and loop devices.
const SECTOR_BYTES: u64 = 512;

/// Reopens a writable block device with `O_EXCL`, so that it cannot be mounted meanwhile.
///
/// # Errors
/// It is mounted or otherwise in use.
pub fn claim(device: File, name: &str) -> Result<File, Error> {
    let failed = |e: io::Error| Error::local(format!("{name}: {e}"));
    let meta = device.metadata().map_err(failed)?;
    if is_read_only(meta.rdev()) {
        return Ok(device);
    }
    // Opened through its descriptor: its path may lead to another device by now.
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
        // Unknown, for example without /proc.
        Err(_) => Ok(device),
    }
}

/// Whether the kernel reports the device as read-only.
fn is_read_only(device: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let said = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/ro"));
    said.is_ok_and(|text| text.trim() == "1")
}

/// Compares the number of bytes read with the size that the image itself states.
///
/// # Errors
/// The image is truncated.
pub fn refuse_cut_off(name: &str, bytes: u64, stated: Option<Stated>) -> Result<(), Error> {
    let Some(stated) = stated.filter(|stated| stated.bytes > bytes) else { return Ok(()) };
    let what = match stated.file_system {
        Some(file_system) => format!("the {file_system} file system in it has {} bytes", stated.bytes),
        None => format!("its partition table reaches to byte {}", stated.bytes),
    };
    let message = format!("{name}: {what}, only {bytes} came: was the input cut off?");
    Err(Error::local(message)
        .hint("nothing was published; check where it comes from, or publish it anyway with --force"))
}

/// Offset and bit of the feature that says that the journal of an ext file system is to be replayed.
const EXT_RECOVER: (usize, u8) = (96, 4);

/// A warning about an ext3 or ext4 file system that was not unmounted; of a stream, only its start is looked at.
pub fn unclean(name: &str, read_at: ReadAt) -> Option<String> {
    let is_unclean = |superblock: &[u8]| superblock[EXT_RECOVER.0] & EXT_RECOVER.1 != 0;
    let found = ext_superblocks(read_at).into_iter().find(|(_, superblock)| is_unclean(superblock));
    found.map(|(start, superblock)| {
        let kind = ext_name(&superblock);
        format!(
            "{name}: the {kind} file system at byte {start} was not unmounted, and its journal is not replayed: it can \
             be mounted read-only with -o noload alone; unmount it, or run e2fsck, before it is published"
        )
    })
}

/// A warning about an image that has less than half of the size of the version before.
pub fn much_smaller(name: &str, bytes: u64, before: Option<u64>) -> Option<String> {
    let before = before.filter(|before| bytes < before / 2)?;
    Some(format!("{name}: {bytes} bytes, the version before has {before}: is it the right image?"))
}

/// A hint about free blocks with old data, if they are more than a tenth of the `data` bytes that were read.
pub fn free_space(name: &str, free: u64, data: u64) -> Option<String> {
    let percent = free.saturating_mul(100) / data.max(1);
    let said = || {
        format!(
            "{name}: {percent} % of what was read is old data in blocks that ext4 calls free; --zero-free leaves it out"
        )
    };
    (percent >= 10).then(said)
}

/// A warning about an image whose last sector is incomplete.
pub fn odd_end(name: &str, bytes: u64) -> Option<String> {
    let rest = bytes % SECTOR_BYTES;
    let said =
        || format!("{name}: {bytes} bytes are no multiple of {SECTOR_BYTES}; loop devices lose the last {rest} bytes");
    (rest > 0).then(said)
}
