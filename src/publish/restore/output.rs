//! The output of `restore`: a new file, or a block device that is not in use.
//!
//! An existing file is replaced, and a device that is not blank overwritten, only with `--force`; a device in use is
//! never written. A file is renamed to its final name once complete; an incomplete one is removed.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FallocateFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::RestoreOptions;
use crate::error::Error;
use crate::format::index::{ExtentSource, Index};
use crate::system::atomic_file::{check_output, temporary_name};

/// File systems, partition tables, RAID and LVM keep their signatures within this distance of the start or the end.
const MARKS_BYTES: u64 = 1 << 20;

/// The output file or device.
#[derive(Debug)]
pub struct Output {
    file: File,
    path: PathBuf,
    /// Final name of the complete file; `None` for a device.
    rename_to: Option<PathBuf>,
    /// Whether an existing file of that name may be replaced.
    replace: bool,
    /// Whether no incomplete file is left to remove.
    settled: AtomicBool,
}

impl Output {
    /// Creates the file, or opens the device, for `size` bytes.
    ///
    /// # Errors
    /// An output that exists or is in use, with a hint how to proceed.
    pub fn create(options: &RestoreOptions, size: u64) -> Result<Self, Error> {
        let path = options.out.clone();
        let existing = std::fs::metadata(&path).ok();
        if existing.as_ref().is_some_and(|m| m.file_type().is_block_device()) {
            return Self::device(path, size, options.force);
        }
        if existing.as_ref().is_some_and(|m| !m.is_file()) {
            return Err(Error::local(format!("{}: neither a file nor a block device", path.display())));
        }
        if existing.is_some() && !options.force {
            return Err(exists(&path));
        }
        check_output(&path).map_err(|e| Error::local(format!("{}: {e}", path.display())))?;
        Self::new_file(path, size, options.force)
    }

    fn new_file(path: PathBuf, size: u64, replace: bool) -> Result<Self, Error> {
        let name = path.file_name().ok_or_else(|| Error::local(format!("{}: no name of a file", path.display())))?;
        let partial = path.with_file_name(temporary_name(name));
        // Fails if anything with this name exists, even a symbolic link.
        let file = File::options().write(true).create_new(true).open(&partial).map_err(|e| Error::io(&path, &e))?;
        let output = Self { file, path: partial, rename_to: Some(path), replace, settled: false.into() };
        output.file.set_len(size).map_err(|e| Error::io(&output.path, &e))?;
        Ok(output)
    }

    fn device(path: PathBuf, size: u64, force: bool) -> Result<Self, Error> {
        let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::BUSY) => {
                let error = Error::local(format!("{}: the device is in use", path.display()));
                return Err(error.hint("unmount it, and whatever else is on it, first: see lsblk"));
            }
            Err(e) => return Err(Error::io(&path, &e.into())),
        };
        let io = |e| Error::io(&path, &e);
        if !file.metadata().map_err(io)?.file_type().is_block_device() {
            return Err(Error::local(format!("{}: no block device any more", path.display())));
        }
        let room = file.seek(SeekFrom::End(0)).map_err(io)?;
        if room < size {
            return Err(Error::local(format!("{}: has {room} bytes, the image needs {size}", path.display())));
        }
        if !force && !is_blank(&file, room).map_err(io)? {
            let error = Error::local(format!("{}: there is something on this device", path.display()));
            return Err(error.hint("see lsblk --fs whether it is the right one; overwrite it with --force"));
        }
        Ok(Self { file, path, rename_to: None, replace: false, settled: true.into() })
    }

    /// Writes the holes as zeros on a device; a new file needs nothing, as it is all holes.
    pub fn zero_holes(&self, index: &Index) -> Result<(), Error> {
        let mut at = 0;
        for extent in index.extents() {
            if extent.from == ExtentSource::Hole && self.rename_to.is_none() {
                self.zero(at, extent.bytes)?;
            }
            at += extent.bytes;
        }
        Ok(())
    }

    fn zero(&self, at: u64, bytes: u64) -> Result<(), Error> {
        if rustix::fs::fallocate(&self.file, FallocateFlags::ZERO_RANGE, at, bytes).is_ok() {
            return Ok(());
        }
        let zeros = vec![0; 1 << 20];
        let mut done = 0;
        while done < bytes {
            let length = (bytes - done).min(zeros.len() as u64) as usize;
            self.write(&zeros[..length], at + done)?;
            done += length as u64;
        }
        Ok(())
    }

    pub fn write(&self, bytes: &[u8], at: u64) -> Result<(), Error> {
        self.file.write_all_at(bytes, at).map_err(|e| Error::io(&self.path, &e))
    }

    /// Syncs the output, and renames a complete file to its final name.
    ///
    /// # Errors
    /// A file system error; a file created under that name meanwhile.
    pub fn finish(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(|e| Error::io(&self.path, &e))?;
        if let Some(name) = &self.rename_to {
            self.rename(name)?;
        }
        self.settled.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn rename(&self, name: &Path) -> Result<(), Error> {
        if !self.replace {
            match rustix::fs::renameat_with(CWD, &self.path, CWD, name, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => return Err(exists(name)),
                // The file system does not support NOREPLACE.
                Err(_) if name.symlink_metadata().is_ok() => return Err(exists(name)),
                Err(_) => {}
            }
        }
        std::fs::rename(&self.path, name).map_err(|e| Error::io(name, &e))
    }

    /// Removes an incomplete file.
    pub fn discard(&self) {
        if !self.settled.swap(true, Ordering::Relaxed) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.discard();
    }
}

fn exists(path: &Path) -> Error {
    Error::local(format!("{}: exists already", path.display())).hint("replace it with --force")
}

/// Whether a device of `bytes` contains only zeros where signatures are kept.
fn is_blank(device: &File, bytes: u64) -> std::io::Result<bool> {
    let mut piece = vec![0; MARKS_BYTES.min(bytes) as usize];
    for at in [0, bytes - piece.len() as u64] {
        device.read_exact_at(&mut piece, at)?;
        if piece.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}
