//! The miniroot: the small in-memory root file system from which a machine reaches the image's root.
//!
//! - `/init`, rendered from the template `boot/init`, what it sources, `/hfl/options.sh` and `/hfl/root.sh`, and
//!   `/hfl/udhcpc.script` from `boot/udhcpc`;
//! - `/bin/busybox` and `/bin/sh`, `/bin/hfl-mount`: static;
//! - `/hfl/modules`: a line `NAME PATH` for each module, dependencies first; `/modules/NAME.ko`;
//! - `/hfl/key`: the line of the public key, if one is pinned;
//! - `/hfl/config`, lines `KEY=VALUE`: `HFL_NAME`, `HFL_URL` (base URLs, separated by blanks) and `HFL_MIN_VERSION`, as
//!   far as they are known.
//!
//! The same inputs give the same bytes.

use std::fmt::Write as _;
use std::path::Path;

use libdeflater::{CompressionLvl, Compressor};
use minijinja::context;

use super::cpio::Archive;
use super::modules::Module;
use crate::boot::template;
use crate::error::Error;
use crate::format::name::{Name, Version};
use crate::format::signature::PublicKey;
use crate::format::url::BaseUrl;

/// Maximum size of a compressed miniroot in bytes.
pub const MINIROOT_MAX_BYTES: usize = 8 << 20;
/// Mount points and other directories, in addition to those of the files.
const DIRECTORIES: [&str; 13] =
    ["bin", "dev", "etc", "hfl", "mnt", "modules", "proc", "root", "run", "sys", "tmp", "var", "var/tmp"];

/// Settings of a miniroot.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Image name.
    pub name: Option<Name>,
    /// Base URLs of the image's mirrors.
    pub mirrors: Vec<BaseUrl>,
    /// Public key that must have signed the head.
    pub key: Option<PublicKey>,
    /// Minimum version: a mirror whose newest version is lower is not accepted.
    pub min_version: Option<Version>,
}

/// Parts of a miniroot.
pub struct Parts<'a> {
    /// Kernel version.
    pub kernel: &'a str,
    /// Modules in load order.
    pub modules: &'a [Module],
    /// A static busybox.
    pub busybox: &'a [u8],
    /// A static hfl-mount.
    pub client: &'a [u8],
    /// Directory of the user's templates.
    pub templates: Option<&'a Path>,
}

/// Builds the compressed miniroot.
///
/// # Errors
/// A template that cannot be rendered; a miniroot that is too large.
pub fn build(parts: &Parts<'_>, settings: &Settings) -> Result<Vec<u8>, Error> {
    let context = context! {
        name => settings.name.as_ref().map(Name::as_str), urls => urls(settings), kernel => parts.kernel,
        key => settings.key.as_ref().map(ToString::to_string),
        min_version => settings.min_version.map(Version::number), hfl => env!("CARGO_PKG_VERSION"),
    };
    let script = |name: &str| template::render(parts.templates, name, &context);
    let mut archive = Archive::default();
    DIRECTORIES.iter().for_each(|path| archive.directory(path));
    archive.device("dev/console", 0o600, (5, 1));
    archive.device("dev/null", 0o666, (1, 3));
    archive.file("init", 0o755, script("boot/init")?.as_bytes());
    archive.file("bin/busybox", 0o755, parts.busybox);
    archive.link("bin/sh", "busybox");
    archive.file("bin/hfl-mount", 0o755, parts.client);
    for name in ["options.sh", "root.sh"] {
        archive.file(&format!("hfl/{name}"), 0o644, script(&format!("boot/{name}"))?.as_bytes());
    }
    archive.file("hfl/udhcpc.script", 0o755, script("boot/udhcpc")?.as_bytes());
    archive.file("hfl/config", 0o644, config(settings).as_bytes());
    if let Some(key) = &settings.key {
        archive.file("hfl/key", 0o644, format!("{key}\n").as_bytes());
    }
    let mut list = String::new();
    for Module { name, bytes } in parts.modules {
        let path = format!("/modules/{name}.ko");
        writeln!(list, "{name} {path}").map_err(|e| Error::local(e.to_string()))?;
        archive.file(&path, 0o644, bytes);
    }
    archive.file("hfl/modules", 0o644, list.as_bytes());
    compress(&archive.finish())
}

fn urls(settings: &Settings) -> Vec<&str> {
    settings.mirrors.iter().map(BaseUrl::as_str).collect()
}

fn config(settings: &Settings) -> String {
    let mut lines = Vec::new();
    lines.extend(settings.name.as_ref().map(|name| format!("HFL_NAME={name}\n")));
    if !settings.mirrors.is_empty() {
        lines.push(format!("HFL_URL={}\n", urls(settings).join(" ")));
    }
    lines.extend(settings.min_version.map(|version| format!("HFL_MIN_VERSION={version}\n")));
    lines.concat()
}

/// Compresses with gzip, which every kernel that can unpack an initramfs supports; without name or time.
fn compress(archive: &[u8]) -> Result<Vec<u8>, Error> {
    let mut compressor = Compressor::new(CompressionLvl::best());
    let mut packed = vec![0; compressor.gzip_compress_bound(archive.len())];
    let length = compressor.gzip_compress(archive, &mut packed);
    let length = length.map_err(|e| Error::local(format!("the miniroot cannot be compressed: {e}")))?;
    packed.truncate(length);
    match packed.len() {
        0..=MINIROOT_MAX_BYTES => Ok(packed),
        bytes => Err(Error::local(format!("the miniroot has {bytes} bytes compressed, at most {MINIROOT_MAX_BYTES}"))
            .hint("ask for fewer modules with --modules, or use a smaller kernel, such as linux-image-cloud-amd64")),
    }
}
