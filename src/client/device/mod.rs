//! Block devices made of files and of each other, as the miniroot of a boot needs them: loop devices and snapshots.
//!
//! Only what a root file system over a mounted image takes, by the kernel's own calls, so that the miniroot carries neither
//! losetup nor dmsetup, and what it takes to try that on a machine that goes on living.

mod ioctl;
pub mod loops;
pub mod mapper;

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind};

/// A device that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {why}", which.display())]
pub struct DeviceError {
    /// What failed, in words that the name of the device or file continues.
    what: &'static str,
    /// On what.
    which: PathBuf,
    /// What the kernel said.
    why: io::Error,
}

impl DeviceError {
    /// For `map_err`.
    fn on(what: &'static str, which: &Path) -> impl FnOnce(io::Error) -> Self {
        let which = which.to_owned();
        move |why| Self { what, which, why }
    }

    /// Whether the kernel lacks what was asked for, or the machine does not let us ask.
    pub fn is_missing(&self) -> bool {
        matches!(self.why.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
    }
}

impl From<DeviceError> for Error {
    fn from(error: DeviceError) -> Self {
        let is_missing = error.is_missing();
        let error = Self::caused(ErrorKind::Local, error);
        if is_missing { error.hint("be root; modprobe loop, modprobe dm_snapshot") } else { error }
    }
}

/// The size of a block device, in sectors of 512 bytes.
///
/// # Errors
/// When it cannot be opened.
fn sectors(device: &Path) -> Result<u64, DeviceError> {
    let end = File::open(device).and_then(|mut file| file.seek(SeekFrom::End(0)));
    Ok(end.map_err(DeviceError::on("open", device))? / 512)
}
