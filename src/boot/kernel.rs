//! The kernel of an image: its file, its version, and the directory of its modules.
//!
//! Sources: the Linux/x86 boot protocol (the version string of a bzImage), "Booting AArch64 Linux" (the magic number of
//! an Image), and the kernel locations of Debian, Fedora, Arch and Alpine.

use super::versions;
use crate::boot::elf;
use crate::disk::fs::file_system::Kind;
use crate::disk::root::Root;
use crate::error::Error;

/// Maximum kernel size in bytes: POWER kernels are not compressed.
const KERNEL_MAX_BYTES: u64 = 192 << 20;
/// Maximum length of a kernel version in bytes, as in uname(2).
const VERSION_MAX_BYTES: usize = 64;
/// Links to the current kernel that a distribution maintains.
const LINKS: [&str; 4] = ["/vmlinuz", "/boot/vmlinuz", "/vmlinux", "/boot/vmlinux"];
/// Name prefixes of kernels in `/boot`.
const PREFIXES: [&str; 4] = ["vmlinuz-", "vmlinux-", "kernel-", "Image-"];

/// A kernel and the directory of its modules.
#[derive(Debug)]
pub struct Kernel {
    /// Version, as in `uname -r`.
    pub version: String,
    /// Directory of its modules in the image.
    pub modules: String,
    /// Path of its file in the image.
    pub path: String,
    /// Contents of the file.
    pub bytes: Vec<u8>,
}

impl Kernel {
    /// The machine it is for, if the kernel alone tells that.
    pub fn machine(&self) -> Option<&'static str> {
        machine(&self.bytes)
    }
}

/// The machine that a kernel is for, as in `uname -m`, if the kernel alone tells that.
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

/// The kernel that the image's own links point to, else the newest one whose modules are in the image.
///
/// # Errors
/// No kernel; none whose modules are in the image.
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

/// Versions whose modules are in the image, with their directories.
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

/// Files that may be kernels: those in `/boot`, and those beside their modules.
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

/// The version in a kernel's path: `/boot/vmlinuz-VERSION`, `/lib/modules/VERSION/vmlinuz`.
fn version_in(place: &str) -> &str {
    let (directory, name) = place.rsplit_once('/').unwrap_or(("", place));
    match PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        Some(version) => version,
        None => directory.rsplit_once('/').map_or("", |(_, last)| last),
    }
}

/// The kernel at `path`, if it is one whose modules are in the image.
fn load(root: &Root, path: &str, modules: &[(String, String)]) -> Result<Option<Kernel>, Error> {
    let Some((place, Kind::File(_))) = root.resolve(path)? else { return Ok(None) };
    let of = |wanted: &str| modules.iter().find(|(version, _)| version == wanted).cloned();
    let by_name = of(version_in(&place)).or_else(|| of(version_in(path)));
    let Some(bytes) = root.read(&place, KERNEL_MAX_BYTES)? else { return Ok(None) };
    let found = by_name.or_else(|| of(version_inside(&bytes)?));
    Ok(found.map(|(version, modules)| Kernel { version, modules, path: place, bytes }))
}

/// The version string inside a bzImage, up to the first blank.
fn version_inside(kernel: &[u8]) -> Option<&str> {
    if kernel.get(514..518) != Some(b"HdrS") {
        return None;
    }
    let at = 512 + usize::from(u16::from_le_bytes([*kernel.get(526)?, *kernel.get(527)?]));
    let text = kernel.get(at..(at + VERSION_MAX_BYTES).min(kernel.len()))?;
    let end = text.iter().position(|b| matches!(b, b' ' | 0))?;
    std::str::from_utf8(&text[..end]).ok().filter(|version| is_version(version))
}

/// Whether the text can be a kernel version: it becomes part of paths and texts.
fn is_version(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_+~".contains(&b);
    (1..=VERSION_MAX_BYTES).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with(['.', '-'])
}
