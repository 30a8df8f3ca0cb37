//! The head: the one file of an image that is ever replaced.
//!
//! It says which versions are held, names every mirror and every further file, and carries its own signature, so one
//! atomic replacement switches everything. A file that was read is a [`SealedHead`] and tells nothing until
//! [`SealedHead::verify`] has turned it into a [`Head`].

mod check;
mod parse;
mod write;

use crate::digest::Sha256;
use crate::keys::{PublicKey, Signature, SignatureError};
use crate::layout::{BootFile, RepoPath};
use crate::name::{Label, Name, Version};
use crate::time::Timestamp;
use crate::url::BaseUrl;

/// The largest head, in bytes.
pub const HEAD_MAX_BYTES: u64 = 256 << 10;
/// The most mirrors a head names.
pub const MIRRORS_MAX: usize = 256;

/// One version that is held in full.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VersionRow {
    /// Its number.
    pub version: Version,
    /// Bytes of its index file.
    pub index_bytes: u64,
    /// SHA-256 of its index file.
    pub index_sha256: Sha256,
    /// When it was published.
    pub created: Timestamp,
    /// Bytes of the image.
    pub size: u64,
    /// Bytes of blocks that it added to the repository.
    pub new_bytes: u64,
    /// What its publisher says of it.
    pub label: Option<Label>,
}

impl VersionRow {
    /// Where its index lies.
    pub fn index_path(&self, image: &Name) -> RepoPath {
        RepoPath::index(image, self.version, &self.index_sha256)
    }
}

/// Any further immutable file that clients need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileRow {
    /// Where it lies.
    pub path: RepoPath,
    /// Its bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Sha256,
}

/// What a head says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// The image's name.
    pub image: Name,
    /// When this head was made; never before the one it replaces.
    pub created: Timestamp,
    /// When it stops being fresh, if ever.
    pub expires: Option<Timestamp>,
    /// Every public base URL.
    pub mirrors: Vec<BaseUrl>,
    /// Further files, sorted by the bytes of their paths.
    pub files: Vec<FileRow>,
    /// The versions that are held in full, newest first; at least one.
    pub versions: Vec<VersionRow>,
}

impl Head {
    /// The newest version.
    pub fn newest(&self) -> &VersionRow {
        &self.versions[0]
    }

    /// The row of one version.
    pub fn version(&self, version: Version) -> Option<&VersionRow> {
        self.versions.iter().find(|row| row.version == version)
    }

    /// A file that one version is booted with.
    pub fn boot_file(&self, version: Version, file: BootFile) -> Option<&FileRow> {
        self.files.iter().find(|row| row.path.is_boot_file_of(&self.image, version, file))
    }

    /// The trusted comment of this head's signature.
    pub fn trusted_comment(&self) -> String {
        format!("hfl head {} {}", self.image, self.created)
    }

    /// Drops the oldest versions, and the files that were theirs, until the head fits its limit; their blocks stay until
    /// they are collected.
    pub fn drop_oldest_beyond_limit(&mut self) {
        let room = HEAD_MAX_BYTES as usize - crate::keys::SIGNATURE_MAX_BYTES;
        while self.versions.len() > 1 && self.body().len() > room {
            let gone = self.versions.pop().map(|row| row.version);
            self.files.retain(|file| gone.is_none_or(|version| !file.path.belongs_to(&self.image, version)));
        }
    }

    /// True once `now` is past the time this head expires.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|at| now >= at)
    }
}

/// How a head proves where it comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seal {
    /// It does not: the line `unsigned` stands in place of a signature.
    Unsigned,
    /// A minisign signature over every byte before the second separator.
    Signed(Box<Signature>),
}

/// What a reader accepts as proof.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trust {
    /// A signature by this key, and nothing else.
    Key(PublicKey),
    /// Anything, signed or not: the reader asked for it.
    Anyone,
}

/// A head as it was read: well-formed, not yet believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedHead {
    head: Head,
    seal: Seal,
}

impl SealedHead {
    /// A head and its seal; the signature is not checked here.
    ///
    /// # Errors
    /// A head that the format does not allow.
    pub fn new(head: Head, seal: Seal) -> Result<Self, HeadError> {
        check::check(&head)?;
        let sealed = Self { head, seal };
        let bytes = sealed.to_bytes().len() as u64;
        if bytes > HEAD_MAX_BYTES {
            return Err(HeadError::new(0, format!("the head has {bytes} bytes, at most {HEAD_MAX_BYTES} are allowed")));
        }
        Ok(sealed)
    }

    /// Believes the head if `trust` says so.
    ///
    /// # Errors
    /// How the signature fails.
    pub fn verify(self, trust: &Trust) -> Result<Head, NotTrusted> {
        match (trust, &self.seal) {
            (Trust::Anyone, _) => Ok(self.head),
            (Trust::Key(_), Seal::Unsigned) => Err(NotTrusted::Unsigned),
            (Trust::Key(key), Seal::Signed(signature)) => {
                key.verify(&self.body(), signature, &self.head.trusted_comment())?;
                Ok(self.head)
            }
        }
    }

    /// The bytes that are signed.
    pub fn body(&self) -> Vec<u8> {
        write::body(&self.head)
    }

    /// Whether it is signed.
    pub fn is_signed(&self) -> bool {
        matches!(self.seal, Seal::Signed(_))
    }
}

/// Why a head is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTrusted {
    /// It says itself that it is not signed.
    #[error("the head is not signed, and a key is pinned")]
    Unsigned,
    /// Its signature fails.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// A head that the format does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct HeadError {
    /// The line of the head's text, counted from 1; 0 where the whole head is meant.
    line: u64,
    why: String,
}

impl HeadError {
    fn new(line: usize, why: impl Into<String>) -> Self {
        Self { line: line as u64, why: why.into() }
    }
}
