//! The layout of a repository: builds and parses every path.
//!
//! A [`RepoPath`] is relative to the base of a mirror and safe to join to a directory or a URL: no `..`, no hidden or
//! empty component, none that looks like an option, and no character that needs quoting.

use std::fmt;
use std::str::FromStr;

use crate::format::digest::{BlockId, Sha256};
use crate::format::name::{Name, Version};

/// The directory of the records of retired versions.
const RETIRED: &str = "retired";
/// Directory at the top of a mirror, or of a cache that serves as one, where files are written before they are renamed
/// into place. Hidden; only the holder of the lock cleans it up.
pub const TEMPORARY: &str = ".hfl-tmp";
/// Maximum length of a path, in bytes.
pub const PATH_MAX_BYTES: usize = 240;
/// Number of digits of a digest in file names.
const DIGITS: usize = 12;

/// A path below the base of a mirror.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RepoPath(String);

/// The kind of object at a path of a repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The list of all images.
    Images,
    /// The head of an image.
    Head(Name),
    /// The index of a version, with the first 12 digits of its SHA-256.
    Index(Name, Version, String),
    /// The signature of such an index.
    IndexSignature(Name, Version, String),
    /// A block.
    Block(BlockId),
    /// A delta.
    Delta(Sha256),
    /// The record of a retired version, with the first 12 digits of the SHA-256 of its index.
    Retirement(Name, Version, String),
    /// The lock object of a store, used in addition to a native lock if there is one.
    Lock,
    /// Anything else: a client, a profile, a boot file, a web page.
    File,
}

/// A file needed to boot a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootFile {
    /// The kernel.
    Kernel,
    /// The miniroot.
    Miniroot,
    /// Text to append to the kernel's command line, ending with a line feed.
    Cmdline,
}

impl BootFile {
    /// All boot files.
    pub const ALL: [Self; 3] = [Self::Kernel, Self::Miniroot, Self::Cmdline];

    /// Its plain file name; the published name also has digits of its digest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "vmlinuz",
            Self::Miniroot => "initrd.img",
            Self::Cmdline => "cmdline",
        }
    }
}

impl RepoPath {
    /// The list of all images, one name per line.
    pub fn images() -> Self {
        Self("images".into())
    }

    /// The head of an image: its only file that is ever replaced.
    pub fn head(image: &Name) -> Self {
        Self(format!("{image}.head"))
    }

    /// The index of a version; `digest` is the SHA-256 of the index file.
    pub fn index(image: &Name, version: Version, digest: &Sha256) -> Self {
        Self(format!("index/{image}/{version}-{}.idx", digits(digest)))
    }

    /// The minisign signature of an index.
    pub fn index_signature(image: &Name, version: Version, digest: &Sha256) -> Self {
        Self(format!("{}.minisig", Self::index(image, version, digest)))
    }

    /// The signature file beside this file; for a client see [`RepoPath::client_signature`].
    pub fn signature(&self) -> Self {
        Self(format!("{}.minisig", self.0))
    }

    /// A block.
    pub fn block(id: &BlockId) -> Self {
        let name = id.to_string();
        Self(format!("blocks/{}/{name}", &name[..2]))
    }

    /// A delta; `digest` is the SHA-256 of its file.
    pub fn delta(digest: &Sha256) -> Self {
        let name = digest.to_string();
        Self(format!("deltas/{}/{name}", &name[..2]))
    }

    /// The update from one version to a later one; `digest` is the SHA-256 of the file.
    pub fn update(image: &Name, (from, version): (Version, Version), digest: &Sha256) -> Self {
        Self(format!("update/{image}/{version}-{from}-{}.update", digits(digest)))
    }

    /// Whether this is the path of an update.
    #[cfg(feature = "publish")]
    pub fn is_update(&self) -> bool {
        self.0.starts_with("update/") && self.0.ends_with(".update")
    }

    /// Whether this is the path of a file that only saves clients time: an update or a profile.
    #[cfg(feature = "publish")]
    pub fn is_optional(&self) -> bool {
        self.0.starts_with("profile/") || self.is_update()
    }

    /// The versions from which and to which this is the path of an update of `image`, if it is one.
    pub fn update_of(&self, image: &Name) -> Option<(Version, Version)> {
        let rest = self.0.strip_prefix("update/")?.strip_prefix(image.as_str())?.strip_prefix('/')?;
        update_versions(rest)
    }

    /// The record of a retired version; `digest` is the SHA-256 of its index file.
    pub fn retirement(image: &Name, version: Version, digest: &Sha256) -> Self {
        Self(format!("{RETIRED}/{image}/{version}-{}", &digest.to_string()[..12]))
    }

    /// The lock object of a store, used in addition to a native lock if there is one.
    pub fn lock() -> Self {
        Self("publish.lock".into())
    }

    /// The profile of a version; `digest` is the SHA-256 of the profile file.
    pub fn profile(image: &Name, version: Version, digest: &Sha256) -> Self {
        Self(format!("profile/{image}/{version}-{}.profile", digits(digest)))
    }

    /// The list of the SHA-256 digests of an image's versions, for people.
    #[cfg(feature = "publish")]
    pub fn image_digests(image: &Name) -> Self {
        Self(format!("sums/{image}/SHA256SUMS"))
    }

    /// Whether this is the path of a profile of this version.
    pub fn is_profile_of(&self, image: &Name, version: Version) -> bool {
        let name = self.0.strip_prefix(&format!("profile/{image}/{version}-"));
        let digits = name.and_then(|name| name.strip_suffix(".profile"));
        digits.is_some_and(is_digest_start)
    }

    /// A boot file of a version; `digest` is the SHA-256 of the file.
    pub fn boot_file(image: &Name, version: Version, file: BootFile, digest: &Sha256) -> Self {
        Self(format!("boot/{image}/{version}/{}-{}", file.name(), digits(digest)))
    }

    /// Whether this is the path of this boot file of this version.
    pub fn is_boot_file_of(&self, image: &Name, version: Version, file: BootFile) -> bool {
        let digits = self.0.strip_prefix(&format!("boot/{image}/{version}/{}-", file.name()));
        digits.is_some_and(is_digest_start)
    }

    /// A client program, by its version and machine architecture; `digest` is the SHA-256 of the program.
    ///
    /// # Errors
    /// A version or machine that is not valid in a path.
    pub fn client(version: &str, machine: &str, digest: &Sha256) -> Result<Self, PathError> {
        format!("client/hfl-mount-{version}-{machine}-linux-{}", digits(digest)).parse()
    }

    /// Whether this is the path of a client or of a client's signature.
    pub fn is_client(&self) -> bool {
        self.0.starts_with("client/")
    }

    /// Whether both are paths of clients of the same version for the same machine; their digests may differ.
    pub fn is_same_client(&self, other: &Self) -> bool {
        let name = |path: &Self| {
            let (name, digits) = path.0.strip_prefix("client/")?.rsplit_once('-')?;
            is_digest_start(digits).then(|| name.to_owned())
        };
        name(self).is_some_and(|own| name(other) == Some(own))
    }

    /// A signature of this client; `digest` is the SHA-256 of the signature file. There is one per key, as several
    /// images ship the same client.
    pub fn client_signature(&self, digest: &Sha256) -> Self {
        Self(format!("{}.{}.minisig", self.0, digits(digest)))
    }

    /// Whether `other` is the path of a signature of this client.
    pub fn is_client_signature(&self, other: &Self) -> bool {
        let rest = other.0.strip_prefix(&self.0).and_then(|rest| rest.strip_prefix('.'));
        self.is_client() && rest.and_then(|rest| rest.strip_suffix(".minisig")).is_some_and(is_digest_start)
    }

    /// Whether this file belongs to this version: `boot/NAME/VERSION/...`, `profile/NAME/VERSION-...`, and an update
    /// from or to it.
    pub fn belongs_to(&self, image: &Name, version: Version) -> bool {
        match self.update_of(image) {
            Some((from, to)) => from == version || to == version,
            None => self.owner().is_some_and(|owner| owner == (image.clone(), version)),
        }
    }

    /// The version this file was published with, if there is one.
    pub fn owner(&self) -> Option<(Name, Version)> {
        let (directory, rest) = self.0.split_once('/')?;
        let (image, rest) = rest.split_once('/')?;
        let end = match directory {
            "boot" => '/',
            "profile" | "update" => '-',
            _ => return None,
        };
        Some((image.parse().ok()?, rest.split_once(end)?.0.parse().ok()?))
    }

    /// The path as text, `/` between its components.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The kind of object at this path.
    pub fn kind(&self) -> Kind {
        let parts: Vec<&str> = self.0.split('/').collect();
        let known = match parts[..] {
            ["images"] => Some(Kind::Images),
            ["publish.lock"] => Some(Kind::Lock),
            [file] => file.strip_suffix(".head").and_then(|n| n.parse().ok()).map(Kind::Head),
            ["blocks", prefix, name] => {
                name.parse().ok().filter(|_| name.starts_with(prefix) && prefix.len() == 2).map(Kind::Block)
            }
            ["deltas", prefix, name] => {
                name.parse().ok().filter(|_| name.starts_with(prefix) && prefix.len() == 2).map(Kind::Delta)
            }
            ["index", image, file] => index_kind(image, file),
            [RETIRED, image, file] => retirement_kind(image, file),
            _ => None,
        };
        known.unwrap_or(Kind::File)
    }

    /// Whether the object here is never replaced, so that caches may keep it forever.
    ///
    /// True for files with digits of their digest in the name and for the signatures beside them: blocks, deltas,
    /// indexes, clients, profiles, updates and boot files of a version. Anything else may change: heads, `images`, web
    /// pages, the files boot loaders read at `boot/NAME/`, and unknown files.
    pub fn is_immutable(&self) -> bool {
        match self.kind() {
            Kind::Block(_) | Kind::Delta(_) | Kind::Index(..) | Kind::IndexSignature(..) => true,
            Kind::Images | Kind::Head(_) | Kind::Retirement(..) | Kind::Lock => false,
            Kind::File => self.is_immutable_file(),
        }
    }

    fn is_immutable_file(&self) -> bool {
        let signed = self.0.strip_suffix(".minisig").unwrap_or(&self.0);
        let ends = |name: &str, before: char| name.rsplit_once(before).is_some_and(|(_, end)| is_digest_start(end));
        let is_of = |image: &str, version: &str| image.parse::<Name>().is_ok() && version.parse::<Version>().is_ok();
        match signed.split('/').collect::<Vec<_>>()[..] {
            ["client", name] => ends(name, '-') || ends(name, '.'),
            ["boot", image, version, name] => is_of(image, version) && ends(name, '-'),
            ["update", image, name] => image.parse::<Name>().is_ok() && update_versions(name).is_some(),
            ["profile", image, name] => {
                let parts = name.strip_suffix(".profile").and_then(|name| name.split_once('-'));
                parts.is_some_and(|(version, digits)| is_of(image, version) && is_digest_start(digits))
            }
            _ => false,
        }
    }
}

/// The digits of a digest used in file names.
fn digits(digest: &Sha256) -> String {
    let mut digits = digest.to_string();
    digits.truncate(DIGITS);
    digits
}

/// `42-41-1f3a9c2b7d10.update`: the versions 41 and 42.
fn update_versions(name: &str) -> Option<(Version, Version)> {
    let (version, rest) = name.strip_suffix(".update")?.split_once('-')?;
    let (from, digits) = rest.split_once('-')?;
    is_digest_start(digits).then_some((from.parse().ok()?, version.parse().ok()?))
}

/// `42-1f3a9c2b7d10.idx`, with or without `.minisig`.
fn index_kind(image: &str, file: &str) -> Option<Kind> {
    let image = image.parse().ok()?;
    let (index, signature) = match file.strip_suffix(".minisig") {
        Some(index) => (index, true),
        None => (file, false),
    };
    let (version, digits) = index.strip_suffix(".idx")?.split_once('-')?;
    let version = version.parse().ok()?;
    if !is_digest_start(digits) {
        return None;
    }
    let digits = digits.to_owned();
    Some(if signature { Kind::IndexSignature(image, version, digits) } else { Kind::Index(image, version, digits) })
}

/// `41-1f3a9c2b7d10`.
fn retirement_kind(image: &str, file: &str) -> Option<Kind> {
    let (version, digits) = file.split_once('-').filter(|(_, digits)| is_digest_start(digits))?;
    Some(Kind::Retirement(image.parse().ok()?, version.parse().ok()?, digits.to_owned()))
}

/// Whether these can be the digits of a digest in a file name.
fn is_digest_start(digits: &str) -> bool {
    digits.len() == DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl FromStr for RepoPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+' | b'/');
        let component = |c: &str| !c.is_empty() && !c.starts_with(['.', '-']);
        let fits = text.len() <= PATH_MAX_BYTES;
        if fits && text.bytes().all(plain) && text.split('/').all(component) {
            return Ok(Self(text.to_owned()));
        }
        Err(PathError)
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The error for a text that is not a path of a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a path of a repository (a-z A-Z 0-9 . _ - + and /, no component that is empty or begins with . or -, at most {PATH_MAX_BYTES} bytes)"
)]
pub struct PathError;
