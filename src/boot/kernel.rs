//! The kernel of an image: which one it is, its version, and where its modules lie.
//!
//! Sources: the Linux/x86 boot protocol (the version string of a bzImage), "Booting AArch64 Linux" (the magic number of an
//! Image), and where Debian, Fedora, Arch and Alpine put their kernels.

use super::versions;
use crate::boot::elf;
use crate::disk::fs::file_system::Kind;
use crate::disk::root::Root;
use crate::error::Error;

/// The largest kernel, in bytes: those for POWER are not compressed.
const KERNEL_MAX_BYTES: u64 = 192 << 20;
/// The longest version of a kernel, in bytes; uname(2) has room for no longer one.
const VERSION_MAX_BYTES: usize = 64;
/// Links that a distribution keeps on the kernel that it boots.
const LINKS: [&str; 4] = ["/vmlinuz", "/boot/vmlinuz", "/vmlinux", "/boot/vmlinux"];
/// What the names of kernels in `/boot` begin with.
const PREFIXES: [&str; 4] = ["vmlinuz-", "vmlinux-", "kernel-", "Image-"];

/// A kernel, and the directory of its modules.
#[derive(Debug)]
pub struct Kernel {
    /// Its version, as `uname -r` says it.
    pub version: String,
    /// Where its modules lie in the image.
    pub modules: String,
    /// Its file in the image.
    pub path: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Kernel {
    /// The machine it is for, where that can be told from it alone.
    pub fn machine(&self) -> Option<&'static str> {
        machine(&self.bytes)
    }
}

/// The machine that a kernel is for, as `uname -m` says it, where that can be told from it alone.
pub fn machine(kernel: &[u8]) -> Option<&'static str> {
    let is_bzimage = kernel.get(514..518) == Some(b"HdrS");
    let is_wide = kernel.get(566).is_some_and(|flags| flags & 1 != 0);
    match is_bzimage {
        true if is_wide => Some("x86_64"),
        true => Some("i686"),
        false if kernel.get(56..60) == Some(b"ARM\x64") => Some("aarch64"),
        false => elf::machine(kernel),
    }
}

/// The kernel that the image's own links name, else the newest one whose modules are there, too.
///
/// # Errors
/// No kernel, or none whose modules are there.
pub fn find(root: &Root) -> Result<Kernel, Error> {
    let modules = modules_directories(root)?;
    for link in LINKS {
        if let Some(kernel) = load(root, link, &modules)? {
            return Ok(kernel);
        }
    }
    let mut places = candidates(root, &modules)?;
    places.sort_by(|a, b| versions::compare(version_in(b), version_in(a)));
    for place in &places {
        if let Some(kernel) = load(root, place, &modules)? {
            return Ok(kernel);
        }
    }
    let versions: Vec<&str> = modules.iter().map(|(version, _)| version.as_str()).collect();
    let error = match (places.is_empty(), versions.is_empty()) {
        (true, _) => root.error_whole("no kernel is in it: no /boot/vmlinuz-VERSION, and no /vmlinuz"),
        (false, true) => root.error_whole(format_args!("{} has no modules: no /lib/modules/VERSION", places[0])),
        (false, false) => root.error_whole(format_args!(
            "no modules fit {}: /lib/modules has those of {} alone",
            places[0],
            versions.join(", ")
        )),
    };
    Err(error.hint(
        "install a kernel in the image, with its modules (on Debian linux-image-amd64 or linux-image-cloud-amd64)",
    ))
}

/// The versions whose modules are in the image, and where they lie.
fn modules_directories(root: &Root) -> Result<Vec<(String, String)>, Error> {
    let mut found: Vec<(String, String)> = Vec::new();
    for base in ["/lib/modules", "/usr/lib/modules"] {
        for version in root.list(base)? {
            let known = found.iter().any(|(other, _)| *other == version);
            let place = format!("{base}/{version}");
            if !known && is_version(&version) && root.is_directory(&place)? {
                found.push((version, place));
            }
        }
    }
    Ok(found)
}

/// Files that may be kernels: those in `/boot`, and the ones that lie with their modules.
fn candidates(root: &Root, modules: &[(String, String)]) -> Result<Vec<String>, Error> {
    let names = root.list("/boot")?;
    let named = names.iter().filter(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)));
    let mut places: Vec<String> = named.map(|name| format!("/boot/{name}")).collect();
    for (_, directory) in modules {
        let beside = format!("{directory}/vmlinuz");
        if root.resolve(&beside)?.is_some() {
            places.push(beside);
        }
    }
    Ok(places)
}

/// The version in the name of a kernel's file: `/boot/vmlinuz-VERSION`, `/lib/modules/VERSION/vmlinuz`.
fn version_in(place: &str) -> &str {
    let (directory, name) = place.rsplit_once('/').unwrap_or(("", place));
    match PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        Some(version) => version,
        None => directory.rsplit_once('/').map_or("", |(_, last)| last),
    }
}

/// The kernel at `path`, if there is one whose modules are in the image.
fn load(root: &Root, path: &str, modules: &[(String, String)]) -> Result<Option<Kernel>, Error> {
    let Some((place, Kind::File(_))) = root.resolve(path)? else { return Ok(None) };
    let of = |wanted: &str| modules.iter().find(|(version, _)| version == wanted).cloned();
    let by_name = of(version_in(&place)).or_else(|| of(version_in(path)));
    let Some(bytes) = root.read(&place, KERNEL_MAX_BYTES)? else { return Ok(None) };
    let found = by_name.or_else(|| of(version_inside(&bytes)?));
    Ok(found.map(|(version, modules)| Kernel { version, modules, path: place, bytes }))
}

/// The version that a bzImage says of itself, up to the first blank.
fn version_inside(kernel: &[u8]) -> Option<&str> {
    if kernel.get(514..518) != Some(b"HdrS") {
        return None;
    }
    let at = 512 + usize::from(u16::from_le_bytes([*kernel.get(526)?, *kernel.get(527)?]));
    let text = kernel.get(at..(at + VERSION_MAX_BYTES).min(kernel.len()))?;
    let end = text.iter().position(|b| matches!(b, b' ' | 0))?;
    std::str::from_utf8(&text[..end]).ok().filter(|version| is_version(version))
}

/// Whether it can be a kernel's version: it becomes part of paths and texts.
fn is_version(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_+~".contains(&b);
    (1..=VERSION_MAX_BYTES).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with(['.', '-'])
}
