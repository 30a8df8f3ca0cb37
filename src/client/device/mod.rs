//! Block devices over a mounted image: loop devices and snapshots, for the miniroot of a boot and for the file system in
//! an image.
//!
//! Only what a root file system over a mounted image needs, through kernel calls, so that the miniroot needs neither
//! losetup nor dmsetup. It also has what is needed to try that on a running machine.

pub mod contents;
mod ioctl;
pub mod loops;
pub mod mapper;

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::error::{Error, ErrorKind};

/// A device operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {why}", which.display())]
pub struct DeviceError {
    /// What failed; the name of the device or file follows it in the message.
    what: &'static str,
    /// The device or file.
    which: PathBuf,
    /// The kernel's error.
    why: io::Error,
}

impl DeviceError {
    /// For `map_err`.
    fn on(what: &'static str, which: &Path) -> impl FnOnce(io::Error) -> Self {
        let which = which.to_owned();
        move |why| Self { what, which, why }
    }

    /// Whether the kernel lacks the feature, or denies access to it.
    pub fn is_missing(&self) -> bool {
        // A device node may be there without its driver.
        let is_bare =
            self.why.raw_os_error().is_some_and(|e| [Errno::NODEV, Errno::NXIO].contains(&Errno::from_raw_os_error(e)));
        is_bare || matches!(self.why.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
    }
}

impl From<DeviceError> for Error {
    fn from(error: DeviceError) -> Self {
        let hint = error.is_missing().then_some("be root; modprobe loop, modprobe dm_snapshot");
        Self::caused(ErrorKind::Local, error).hint_if(hint)
    }
}

/// Size of a block device, in sectors of 512 bytes.
///
/// # Errors
/// The device cannot be opened.
fn sectors(device: &Path) -> Result<u64, DeviceError> {
    let end = File::open(device).and_then(|mut file| file.seek(SeekFrom::End(0)));
    Ok(end.map_err(DeviceError::on("open", device))? / 512)
}
