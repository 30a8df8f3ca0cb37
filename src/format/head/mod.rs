//! The head: the only file of an image that is ever replaced.
//!
//! It lists the available versions, all mirrors and all other files, and carries its own signature, so one atomic
//! replacement switches everything. A parsed file is a [`SignedHead`]; its contents are accessible only after
//! [`SignedHead::verify`] has turned it into a [`Head`], or explicitly unverified.

mod check;
mod image_digest;
mod note;
mod parse;
mod write;

use crate::format::comment;
use crate::format::digest::Sha256;
use crate::format::layout::{BootFile, RepoPath};
use crate::format::name::{Label, Name, Version};
use crate::format::signature::{PublicKey, Signature, SignatureError};
use crate::format::time::Timestamp;
use crate::format::url::BaseUrl;

pub use note::{NOTE_KEY_MAX_BYTES, NOTE_VALUE_MAX_BYTES, NOTES_MAX, Note, NoteError};
#[cfg(feature = "publish")]
pub(crate) use parse::{file_row, seal as parse_seal, version_start};

/// Maximum size of a head, in bytes.
pub const HEAD_MAX_BYTES: u64 = 256 << 10;
/// Maximum size of the body, in bytes: leaves room for a signature.
const BODY_MAX_BYTES: usize = HEAD_MAX_BYTES as usize - crate::format::signature::SIGNATURE_MAX_BYTES;
/// Maximum number of mirrors in a head.
pub const MIRRORS_MAX: usize = 256;

/// One complete version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VersionRow {
    /// Version number.
    pub version: Version,
    /// Size of its index file, in bytes.
    pub index_bytes: u64,
    /// SHA-256 of its index file.
    pub index_sha256: Sha256,
    /// When it was published.
    pub created: Timestamp,
    /// Size of the image, in bytes.
    pub size: u64,
    /// Size of the blocks it added to the repository, in bytes.
    pub new_bytes: u64,
    /// The publisher's label.
    pub label: Option<Label>,
}

impl VersionRow {
    /// The path of its index.
    pub fn index_path(&self, image: &Name) -> RepoPath {
        RepoPath::index(image, self.version, &self.index_sha256)
    }
}

/// Any other immutable file that clients need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileRow {
    /// Path in the repository.
    pub path: RepoPath,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: Sha256,
}

/// The contents of a head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Image name.
    pub image: Name,
    /// When this head was created; never earlier than the head it replaces.
    pub created: Timestamp,
    /// When it expires, if ever.
    pub expires: Option<Timestamp>,
    /// The public base URLs of all mirrors.
    pub mirrors: Vec<BaseUrl>,
    /// Other files, sorted by the bytes of their paths.
    pub files: Vec<FileRow>,
    /// Extensions of later versions of hfl, sorted by their bytes; at most [`NOTES_MAX`].
    pub notes: Vec<Note>,
    /// The complete versions, newest first; at least one.
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

    /// The row of a boot file of one version.
    pub fn boot_file(&self, version: Version, file: BootFile) -> Option<&FileRow> {
        self.files.iter().find(|row| row.path.is_boot_file_of(&self.image, version, file))
    }

    /// The trusted comment of this head's signature.
    pub fn trusted_comment(&self) -> String {
        comment::head(&self.image, self.created)
    }

    /// Drops the oldest versions and their own files until the head fits its limit; returns the dropped versions, each
    /// with its files.
    pub fn drop_oldest_beyond_limit(&mut self) -> Vec<(VersionRow, Vec<FileRow>)> {
        let mut dropped = Vec::new();
        while self.versions.len() > 1 && self.body().len() > BODY_MAX_BYTES {
            let Some(row) = self.versions.pop() else { break };
            let (own, files) = self.files.drain(..).partition(|f| f.path.belongs_to(&self.image, row.version));
            self.files = files;
            dropped.push((row, own));
        }
        dropped
    }

    /// Used part of the body's maximum size, in per cent.
    pub fn fullness_percent(&self) -> usize {
        self.body().len() * 100 / BODY_MAX_BYTES
    }

    /// Whether both have the same contents, apart from the times of creation and expiry.
    pub fn says_the_same(&self, other: &Self) -> bool {
        // Built from the whole head, so that no field can be forgotten.
        *other == Self { created: other.created, expires: other.expires, ..self.clone() }
    }

    /// The first note that forbids this hfl to sign the next head or to remove anything: it knows no binding notes.
    pub fn binding_note(&self) -> Option<&Note> {
        self.notes.iter().find(|note| note.binds_publishers())
    }

    /// True from the time this head expires on.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|at| now >= at)
    }
}

/// The signature of a head, or its absence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeadSignature {
    /// The line `unsigned` in place of a signature.
    Unsigned,
    /// A minisign signature over every byte before the second separator.
    Signed(Box<Signature>),
}

impl HeadSignature {
    /// Verifies `body` against this signature; `comment` is the expected trusted comment, for messages.
    pub(crate) fn verify(&self, trust: &Trust, body: &[u8], comment: &str) -> Result<(), NotTrusted> {
        match (trust, self) {
            (Trust::Anyone, _) => Ok(()),
            (Trust::Key(_), Self::Unsigned) => Err(NotTrusted::Unsigned),
            (Trust::Key(key), Self::Signed(signature)) => Ok(key.verify(body, signature, comment)?),
        }
    }
}

/// What a reader accepts as authentic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trust {
    /// Only a signature by this key.
    Key(PublicKey),
    /// Anything, signed or not; must be requested explicitly.
    Anyone,
}

impl Trust {
    /// The key that must have signed; `None` if anything is accepted.
    pub fn key(&self) -> Option<&PublicKey> {
        match self {
            Self::Key(key) => Some(key),
            Self::Anyone => None,
        }
    }
}

/// A head as read: well-formed, not yet verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedHead {
    head: Head,
    seal: HeadSignature,
}

impl SignedHead {
    /// A head and its signature, which is not verified here.
    ///
    /// # Errors
    /// A head that violates the format.
    pub fn new(head: Head, seal: HeadSignature) -> Result<Self, HeadError> {
        check::check(&head)?;
        let sealed = Self { head, seal };
        let bytes = sealed.to_bytes().len() as u64;
        if bytes > HEAD_MAX_BYTES {
            return Err(HeadError::new(0, format!("the head has {bytes} bytes, at most {HEAD_MAX_BYTES} are allowed")));
        }
        Ok(sealed)
    }

    /// Returns the head if `trust` accepts its signature.
    ///
    /// # Errors
    /// Why the signature is not accepted.
    pub fn verify(self, trust: &Trust) -> Result<Head, NotTrusted> {
        self.seal.verify(trust, &self.body(), &self.head.trusted_comment())?;
        Ok(self.head)
    }

    /// The first of `trusts` that accepts the head.
    ///
    /// # Errors
    /// Why the last of them does not accept it, if none does.
    pub fn verify_any<'a>(&self, trusts: &'a [Trust]) -> Result<&'a Trust, NotTrusted> {
        let (body, comment) = (self.body(), self.head.trusted_comment());
        let mut failed = NotTrusted::Unknown;
        for trust in trusts {
            match self.seal.verify(trust, &body, &comment) {
                Ok(()) => return Ok(trust),
                Err(e) => failed = e,
            }
        }
        Err(failed)
    }

    /// The contents, not verified.
    pub fn unverified(&self) -> &Head {
        &self.head
    }

    /// The bytes that are signed.
    pub fn body(&self) -> Vec<u8> {
        write::body(&self.head)
    }

    /// Whether it is signed.
    pub fn is_signed(&self) -> bool {
        matches!(self.seal, HeadSignature::Signed(_))
    }
}

/// Why a head, or another text signed like one, is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTrusted {
    /// It is marked as not signed.
    #[error("it is not signed, and a key is pinned")]
    Unsigned,
    /// There is no key to verify it with.
    #[error("no key is known for it")]
    Unknown,
    /// Its signature fails to verify.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// The error for a head that violates the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct HeadError {
    /// The line of the head's text, counted from 1; 0 for the whole head.
    line: u64,
    why: String,
}

impl HeadError {
    fn new(line: usize, why: impl Into<String>) -> Self {
        Self { line: line as u64, why: why.into() }
    }
}
