//! Opens the output of a restore: a partial file, a file that is changed in place, or a block device that is not in use.
//!
//! An existing file is replaced, and a device that is not blank overwritten, only with `--force` or in place; a device in
//! use is never written. A partial file of an earlier run is continued: its contents are believed by their digests only,
//! but nobody else must be able to change it later.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use super::RestoreOptions;
use super::output::{Kind, Output, exists};
use crate::error::{Error, ErrorKind};
use crate::split::is_zero;
use crate::system::atomic_file::{check_output, temporary_name};
use crate::system::file_lock;

/// File systems, partition tables, RAID and LVM keep their signatures within this distance of the start or the end.
const MARKS_BYTES: u64 = 1 << 20;
/// How much of a file's name the name of its partial file contains, in bytes; names are limited to 255.
const NAME_PART_MAX_BYTES: usize = 200;
/// How often a partial file is opened again that another run has just finished or removed.
const OPENINGS_MAX: usize = 10;

/// Opens and locks the output for an image of `size` bytes.
///
/// # Errors
/// An output that exists, is in use, or is written by another run; each with a hint how to proceed.
pub fn open(options: &RestoreOptions, size: u64) -> Result<Output, Error> {
    let path = &options.out;
    let existing = std::fs::metadata(path).ok();
    if existing.as_ref().is_some_and(|m| m.file_type().is_block_device()) {
        return device(path, size, options);
    }
    if existing.as_ref().is_some_and(|m| !m.is_file()) {
        return Err(Error::local(format!("{}: neither a file nor a block device", path.display())));
    }
    check_output(path).map_err(|e| Error::local(format!("{}: {e}", path.display())))?;
    match existing {
        Some(_) if options.in_place => old_file(path, options.force),
        None if options.in_place => {
            let error = Error::local(format!("{}: there is no such file to update", path.display()));
            Err(error.hint("make it without --in-place"))
        }
        _ if !options.force && path.symlink_metadata().is_ok() => Err(exists(path)),
        _ => new_file(path, size, options),
    }
}

/// The name of the partial file of an output: always the same, so that the next run finds it.
fn partial_name(name: &OsStr) -> OsString {
    let bytes = name.as_bytes();
    let mut partial = OsStr::from_bytes(&bytes[..bytes.len().min(NAME_PART_MAX_BYTES)]).to_owned();
    partial.push(".hfl-partial");
    partial
}

fn output(file: File, path: PathBuf, kind: Kind, old_bytes: u64) -> Output {
    Output { file, path, kind, old_bytes, is_touched: false.into() }
}

fn new_file(path: &Path, size: u64, options: &RestoreOptions) -> Result<Output, Error> {
    let name = path.file_name().ok_or_else(|| Error::local(format!("{}: no name of a file", path.display())))?;
    let partial = path.with_file_name(partial_name(name));
    let file = open_partial(&partial, path)?;
    let io = |e| Error::io(&partial, &e);
    if options.restart {
        file.set_len(0).map_err(io)?;
    }
    let old_bytes = file.metadata().map_err(io)?.len();
    file.set_len(size).map_err(io)?;
    let kind = Kind::New { name: path.to_owned(), replace: options.force };
    Ok(output(file, partial, kind, old_bytes.min(size)))
}

/// Opens and locks a partial file.
fn open_partial(partial: &Path, path: &Path) -> Result<File, Error> {
    for _ in 0..OPENINGS_MAX {
        // No symbolic link is followed: it may have been planted.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::open(partial, flags, Mode::from_raw_mode(0o666)) {
            Ok(file) => File::from(file),
            Err(Errno::LOOP) => return Err(not_ours(partial, "a symbolic link")),
            Err(e) => return Err(Error::io(partial, &e.into())),
        };
        let meta = file.metadata().map_err(|e| Error::io(partial, &e))?;
        check_ours(partial, &meta)?;
        lock(&file, path)?;
        // Another run may have renamed or removed it before it was locked.
        let is_same = |now: Metadata| (now.dev(), now.ino()) == (meta.dev(), meta.ino());
        if partial.symlink_metadata().is_ok_and(is_same) {
            return Ok(file);
        }
    }
    Err(Error::new(ErrorKind::Conflict, format!("{}: replaced again and again by something else", partial.display())))
}

/// Checks that nobody else can change a file.
fn check_ours(partial: &Path, meta: &Metadata) -> Result<(), Error> {
    let why = match meta {
        meta if !meta.is_file() => "not a regular file",
        meta if meta.uid() != rustix::process::geteuid().as_raw() && meta.uid() != owner_of_new(partial)? => {
            "a file of another user"
        }
        meta if meta.nlink() != 1 => "a file that has other names too",
        _ => return Ok(()),
    };
    Err(not_ours(partial, why))
}

/// The owner of what is created beside `partial`: some file systems know one for all files.
fn owner_of_new(partial: &Path) -> Result<u32, Error> {
    let probe = partial.with_file_name(temporary_name(OsStr::new("hfl")));
    let io = |e: std::io::Error| Error::io(&probe, &e);
    let file = File::options().write(true).create_new(true).open(&probe).map_err(io)?;
    std::fs::remove_file(&probe).map_err(io)?;
    file.metadata().map(|meta| meta.uid()).map_err(io)
}

fn not_ours(partial: &Path, what: &str) -> Error {
    let error =
        Error::local(format!("{}: {what} lies where the partial file of a restore would be", partial.display()));
    error.hint("remove it, or restore to another name")
}

fn lock(file: &File, path: &Path) -> Result<(), Error> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(in_use_by_another(path)),
        // Some network file systems have no locks; most restores are alone.
        Ok(()) | Err(_) => Ok(()),
    }
}

fn in_use_by_another(path: &Path) -> Error {
    let error = Error::new(ErrorKind::Conflict, format!("{}: another restore writes to it", path.display()));
    error.hint("wait for it to end, or stop it: it can be continued")
}

fn old_file(path: &Path, force: bool) -> Result<Output, Error> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::io(path, &e.into()))?);
    let meta = file.metadata().map_err(|e| Error::io(path, &e))?;
    if !meta.is_file() {
        return Err(Error::local(format!("{}: no file any more", path.display())));
    }
    if let Some(device) = loop_device_over(path).filter(|_| !force) {
        let error = Error::local(format!("{}: the file is in use, as {device}", path.display()));
        return Err(
            error.hint(format!("unmount it, and detach it with losetup -d {device}; or update {device} instead"))
        );
    }
    lock(&file, path)?;
    Ok(output(file, path.to_owned(), Kind::OldFile, meta.len()))
}

/// The loop device that a file is attached to, if there is one.
fn loop_device_over(path: &Path) -> Option<String> {
    let path = std::fs::canonicalize(path).ok()?;
    let devices = std::fs::read_dir("/sys/block").ok()?.flatten().map(|entry| entry.path());
    let is_over = |device: &PathBuf| {
        let file = std::fs::read(device.join("loop/backing_file")).unwrap_or_default();
        file.strip_suffix(b"\n").is_some_and(|file| file == path.as_os_str().as_bytes())
    };
    devices.filter(is_over).find_map(|device| Some(format!("/dev/{}", device.file_name()?.to_str()?)))
}

fn device(path: &Path, size: u64, options: &RestoreOptions) -> Result<Output, Error> {
    let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::BUSY) => {
            let error = Error::local(format!("{}: the device is in use", path.display()));
            return Err(error.hint("unmount it, and whatever else is on it, first: see lsblk"));
        }
        Err(e) => return Err(Error::io(path, &e.into())),
    };
    let io = |e| Error::io(path, &e);
    if !file.metadata().map_err(io)?.file_type().is_block_device() {
        return Err(Error::local(format!("{}: no block device any more", path.display())));
    }
    // While it is locked, udev does not look at what is half written. It locks devices itself for a moment.
    file_lock::lock(&file).map_err(|_| in_use_by_another(path))?;
    let room = file.seek(SeekFrom::End(0)).map_err(io)?;
    if room < size {
        return Err(Error::local(format!("{}: has {room} bytes, the image needs {size}", path.display())));
    }
    if options.in_place {
        return Ok(output(file, path.to_owned(), Kind::OldDevice, room));
    }
    if !options.force && !is_blank(&file, room).map_err(io)? {
        let error = Error::local(format!("{}: there is something on this device", path.display()));
        return Err(error.hint(
            "see lsblk --fs whether it is the right one; overwrite it with --force, or update an older version with --in-place",
        ));
    }
    Ok(output(file, path.to_owned(), Kind::Device, 0))
}

/// Whether a file or device of `bytes` contains only zeros where signatures are kept.
pub fn is_blank(file: &File, bytes: u64) -> std::io::Result<bool> {
    let mut piece = vec![0; MARKS_BYTES.min(bytes) as usize];
    for at in [0, bytes - piece.len() as u64] {
        file.read_exact_at(&mut piece, at)?;
        if !is_zero(&piece) {
            return Ok(false);
        }
    }
    Ok(true)
}
