//! The two programs of a miniroot, busybox and hfl-mount: static, and for the kernel's machine.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::boot::elf;
use crate::error::Error;
use crate::system::installed;

/// Maximum size of a program in bytes.
const PROGRAM_MAX_BYTES: u64 = 64 << 20;
/// Where distributions install a static busybox.
const BUSYBOX_PLACES: [&str; 5] = [
    "/bin/busybox-static",
    "/usr/lib/busybox/busybox-static",
    "/bin/busybox.static",
    "/bin/busybox",
    "/usr/bin/busybox",
];

/// A static program.
pub struct Program {
    /// Contents of the file.
    pub bytes: Vec<u8>,
    /// Machine it is for, as in `uname -m`.
    pub machine: &'static str,
}

impl Program {
    /// Reads a program.
    ///
    /// # Errors
    /// A file that is not a static Linux program.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let failed = |e: std::io::Error| Error::io(path, &e);
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(Error::local(format!("{}: not a file", path.display())));
        }
        file.take(PROGRAM_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        Self::of(bytes).map_err(|why| Error::local(format!("{}: {why}", path.display())))
    }

    /// A program that was already read.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn of(bytes: Vec<u8>) -> Result<Self, &'static str> {
        if bytes.len() as u64 > PROGRAM_MAX_BYTES {
            return Err("too large for a miniroot");
        }
        let machine = elf::machine(&bytes).ok_or("not a Linux program of an architecture hfl knows")?;
        match elf::is_dynamic(&bytes) {
            true => Err("needs shared libraries, which a miniroot does not have; it must be static"),
            false => Ok(Self { bytes, machine }),
        }
    }
}

/// The given busybox, else one of this system.
///
/// # Errors
/// A given one that cannot be used, or is for another machine; none found.
pub fn busybox(named: Option<&Path>, machine: &str) -> Result<Program, Error> {
    if let Some(path) = named {
        let found = Program::load(path)?;
        return fits(found, machine, &path.display().to_string());
    }
    let usable = |place: &&str| Program::load(Path::new(place)).ok().filter(|found| found.machine == machine);
    BUSYBOX_PLACES.iter().find_map(usable).ok_or_else(|| {
        Error::local(format!("there is no static busybox for {machine} on this system")).hint(
            "install the package busybox-static, or name one of the machine's architecture with --busybox FILE \
             (dpkg -x its busybox-static.deb DIRECTORY, then DIRECTORY/bin/busybox)",
        )
    })
}

/// The client for `machine` among the given ones, else among those installed with this program.
///
/// # Errors
/// A given one that cannot be used; none for the machine.
pub fn client(named: &[PathBuf], machine: &str) -> Result<Program, Error> {
    let mut others = Vec::new();
    for path in named {
        let found = Program::load(path)?;
        if found.machine == machine {
            return Ok(found);
        }
        others.push(format!("{} is for {}", path.display(), found.machine));
    }
    for path in installed::clients().iter().filter(|_| named.is_empty()) {
        match Program::load(path) {
            Ok(found) if found.machine == machine => return Ok(found),
            Ok(found) => others.push(format!("{} is for {}", path.display(), found.machine)),
            Err(e) => others.push(e.to_string()),
        }
    }
    let known = if others.is_empty() { String::new() } else { format!(": {}", others.join(", ")) };
    Err(Error::local(format!("there is no static hfl-mount for {machine}{known}")).hint(how_to_get_a_client(machine)))
}

/// What to do without a static client.
fn how_to_get_a_client(machine: &str) -> String {
    let build = match machine == std::env::consts::ARCH {
        true => {
            "the packages hfl and hfl-mount contain one; in a checkout of hfl, build it with \
             RUSTFLAGS='-C target-feature=+crt-static' cargo build --profile client --no-default-features \
             --features mount --bin hfl-mount --target \"$(rustc --print host-tuple)\", which makes \
             target/*-linux-gnu/client/hfl-mount"
        }
        false => "take that of a package hfl-mount for it, or cross-compile it, as tests/cross.sh does",
    };
    format!("{build}; copy it beside hfl, or name it: `client` in mirrors.toml, or --client of hfl boot build")
}

/// Returns the program if it is for the machine.
fn fits(program: Program, machine: &str, name: &str) -> Result<Program, Error> {
    match program.machine == machine {
        true => Ok(program),
        false => Err(Error::local(format!("{name}: for {}, and the image's kernel is for {machine}", program.machine))),
    }
}
