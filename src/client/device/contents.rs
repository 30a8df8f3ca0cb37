//! The file system in a mounted image, mounted in turn: a loop device over the image's file, or over one partition of it,
//! that vanishes with its last user. Only root can do that.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::loops::{self, LoopOptions};
use crate::error::Error;
use crate::partitions::{Partition, partitions};
use crate::system::{child, mounts};

/// What to mount of an image, and how.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Number of the partition; `None` for the whole image.
    pub partition: Option<u32>,
    /// Type of the file system; `None` lets mount(8) find out.
    pub fstype: Option<String>,
    /// Options for mount(8), beside `ro`.
    pub options: Vec<String>,
}

impl Contents {
    /// Mounts what is in `file` on `point`. The loop device is free again once it is unmounted.
    ///
    /// # Errors
    /// No such partition; no loop device; no file system that mount(8) knows. The error lists the partitions, if there
    /// are any.
    pub fn mount(&self, file: &Path, point: &Path) -> Result<(), Error> {
        let mut options = LoopOptions { direct: true, autoclear: true, ..LoopOptions::default() };
        if let Some(number) = self.partition {
            let all = partitions_of(file).map_err(|e| Error::io(file, &e))?;
            let Some(wanted) = all.iter().find(|partition| partition.number == number) else {
                return Err(advised(&format!("{} has no partition {number}", name(file)), &all));
            };
            (options.offset, options.size) = (wanted.start, wanted.len);
        }
        let (device, _held) = loops::hold(file, options)?;
        self.mount_device(&device, point).map_err(|why| match self.partition {
            None => advised(&why, &partitions_of(file).unwrap_or_default()),
            Some(_) => Error::local(why),
        })
    }

    /// Runs mount(8), which finds out the type; on failure, its message.
    fn mount_device(&self, device: &Path, point: &Path) -> Result<(), String> {
        let options: Vec<&str> = std::iter::once("ro").chain(self.options.iter().map(String::as_str)).collect();
        let mut mount = child::command("mount");
        mount.arg("-o").arg(options.join(","));
        if let Some(fstype) = &self.fstype {
            mount.args(["-t", fstype]);
        }
        let output = mount.arg(device).arg(point).stdin(Stdio::null()).output().map_err(|e| format!("mount: {e}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("mount failed without a message");
        Err(said.trim().to_owned())
    }
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The error, with what there is instead.
fn advised(why: &str, partitions: &[Partition]) -> Error {
    let error = Error::local(why);
    if partitions.is_empty() {
        return error.hint("to mount the image as a file, leave --contents out (with mount -t hfl: -o file)");
    }
    let shown = |p: &Partition| format!("{} ({} MiB)", p.number, p.len >> 20);
    let all: Vec<String> = partitions.iter().map(shown).collect();
    error.hint(format!("the image has partitions: {}; name one with --partition N (-o partition=N)", all.join(", ")))
}

/// The partitions of the image in `file`.
fn partitions_of(file: &Path) -> io::Result<Vec<Partition>> {
    let image = File::open(file)?;
    Ok(partitions(&mut |at, out| image.read_exact_at(out, at).is_ok()))
}

/// The file behind what is mounted on `point`, if that is a loop device.
pub fn file_behind(point: &Path) -> Option<PathBuf> {
    let source = mounts::on(&fs::canonicalize(point).ok()?)?.source;
    let device = source.to_str()?.strip_prefix("/dev/").filter(|device| !device.contains('/'))?;
    let backing = fs::read(format!("/sys/block/{device}/loop/backing_file")).ok()?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(backing.trim_ascii_end())))
}
