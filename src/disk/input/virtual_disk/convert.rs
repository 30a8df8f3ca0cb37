//! Converting a virtual disk with `qemu-img`, to a temporary file without a name.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;

use super::Format;
use crate::disk::input::file::Stamp;
use crate::error::Error;
use crate::format::index::IMAGE_MAX_BYTES;
use crate::system::{child, directories};

const PROGRAM: &str = "qemu-img";
/// Exit codes of `qemu-img check`: clusters that nothing names; a format without checks.
const CHECK_LEAKS: i32 = 3;
const CHECK_UNSUPPORTED: i32 = 63;

/// The contents of a virtual disk and their size in bytes. `failure` says why hfl itself cannot read it.
///
/// # Errors
/// `qemu-img` is not installed or fails; there is no room; the file changed meanwhile.
pub fn to_raw(format: Format, file: &File, path: &Path, failure: Option<io::Error>) -> Result<(File, u64), Error> {
    let failed = |e: io::Error| Error::io(path, &e);
    let converter = Converter { format, path, failure };
    let stamp = Stamp::of(file).map_err(failed)?;
    // An absolute path is never taken for a protocol of qemu.
    let absolute = std::fs::canonicalize(path).map_err(failed)?;
    let bytes = converter.size(&absolute)?;
    converter.check(&absolute)?;

    let directory = directories::temporary();
    let room = |e: io::Error| {
        Error::local(format!("{}: cannot be converted in {}: {e}", path.display(), directory.display()))
            .hint("set XDG_CACHE_HOME to a directory with room for the image")
    };
    std::fs::create_dir_all(&directory).map_err(room)?;
    let out = tempfile::tempfile_in(&directory).map_err(room)?;
    out.set_len(bytes).map_err(room)?;
    let target = format!("/proc/{}/fd/{}", std::process::id(), out.as_raw_fd());
    converter.run(
        child::command(PROGRAM)
            .args(["convert", "-q", "-n", "--target-is-zero", "-f", format.of_qemu(), "-O", "raw"])
            .arg(&absolute)
            .arg(target),
    )?;
    stamp.check(file, path)?;
    Ok((out, bytes))
}

struct Converter<'a> {
    format: Format,
    path: &'a Path,
    failure: Option<io::Error>,
}

impl Converter<'_> {
    /// Size of the disk in bytes, checked.
    fn size(&self, absolute: &Path) -> Result<u64, Error> {
        let info = ["info", "--output=json", "-f", self.format.of_qemu()];
        let told = self.run(child::command(PROGRAM).args(info).arg(absolute))?;
        let value: Option<serde_json::Value> = serde_json::from_slice(&told).ok();
        match value.as_ref().and_then(|value| value["virtual-size"].as_u64()) {
            Some(bytes @ 1..=IMAGE_MAX_BYTES) => Ok(bytes),
            Some(bytes) => Err(self.error(&format!("{bytes} bytes, at most {IMAGE_MAX_BYTES} are possible"))),
            None => Err(self.error("qemu-img does not tell its size")),
        }
    }

    /// Checks that what the disk's tables name is there: what is missing would be converted to zeros.
    fn check(&self, absolute: &Path) -> Result<(), Error> {
        let output =
            self.output(child::command(PROGRAM).args(["check", "-q", "-f", self.format.of_qemu()]).arg(absolute))?;
        match output.status.code() {
            Some(0 | CHECK_LEAKS | CHECK_UNSUPPORTED) => Ok(()),
            _ => Err(self.failed(&output).hint("the file was cut off or is damaged; check where it comes from")),
        }
    }

    /// Runs `qemu-img` and returns its output.
    fn run(&self, command: &mut Command) -> Result<Vec<u8>, Error> {
        let output = self.output(command)?;
        if output.status.success() { Ok(output.stdout) } else { Err(self.failed(&output)) }
    }

    fn output(&self, command: &mut Command) -> Result<Output, Error> {
        match command.stdin(Stdio::null()).output() {
            Ok(output) if output.status.signal() == Some(Signal::INT.as_raw()) => Err(Error::interrupted()),
            Ok(output) => Ok(output),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(self.missing()),
            Err(e) => Err(self.error(&format!("{PROGRAM}: {e}"))),
        }
    }

    fn failed(&self, output: &Output) -> Error {
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.trim().lines().next().unwrap_or("no message");
        self.error(&format!("{first} ({PROGRAM}, {})", output.status))
    }

    fn error(&self, what: &str) -> Error {
        Error::local(format!("{}: {}: {what}", self.path.display(), self.format.name()))
    }

    fn missing(&self) -> Error {
        let why = match &self.failure {
            Some(failure) => format!("hfl itself cannot read it ({failure}), and {PROGRAM} is not installed"),
            None => format!("read through {PROGRAM}, which is not installed"),
        };
        self.error(&why).hint("install it: apt install qemu-utils, or dnf install qemu-img")
    }
}
