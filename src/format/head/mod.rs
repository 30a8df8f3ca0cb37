//! The head: the one file of an image that is ever replaced.
//!
//! It says which versions are held, names every mirror and every further file, and carries its own signature, so one
//! atomic replacement switches everything. A file that was read is a [`SignedHead`] and tells nothing until
//! [`SignedHead::verify`] has turned it into a [`Head`].

mod check;
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

/// The largest head, in bytes.
pub const HEAD_MAX_BYTES: u64 = 256 << 10;
/// What a signature leaves of it.
const BODY_MAX_BYTES: usize = HEAD_MAX_BYTES as usize - crate::format::signature::SIGNATURE_MAX_BYTES;
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
    /// What later versions of hfl add, sorted by their bytes; at most [`NOTES_MAX`].
    pub notes: Vec<Note>,
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
        comment::head(&self.image, self.created)
    }

    /// Drops the oldest versions, and the files that were theirs, until the head fits its limit; returns what was dropped,
    /// each version with its files.
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

    /// How much of the room for versions and files is used, in per cent.
    pub fn fullness_percent(&self) -> usize {
        self.body().len() * 100 / BODY_MAX_BYTES
    }

    /// Whether both say the same, whenever they were made and however long they last.
    pub fn says_the_same(&self, other: &Self) -> bool {
        // Built from the whole head, so that no field of it can be left out.
        *other == Self { created: other.created, expires: other.expires, ..self.clone() }
    }

    /// The first note that forbids this hfl to sign the next head or to remove anything: it knows none of that kind.
    pub fn binding_note(&self) -> Option<&Note> {
        self.notes.iter().find(|note| note.binds_publishers())
    }

    /// True once `now` is past the time this head expires.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|at| now >= at)
    }
}

/// How a head proves where it comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeadSignature {
    /// It does not: the line `unsigned` stands in place of a signature.
    Unsigned,
    /// A minisign signature over every byte before the second separator.
    Signed(Box<Signature>),
}

impl HeadSignature {
    /// Whether `body` can be believed with this seal; `comment` is the trusted comment that was expected, for messages.
    pub(crate) fn verify(&self, trust: &Trust, body: &[u8], comment: &str) -> Result<(), NotTrusted> {
        match (trust, self) {
            (Trust::Anyone, _) => Ok(()),
            (Trust::Key(_), Self::Unsigned) => Err(NotTrusted::Unsigned),
            (Trust::Key(key), Self::Signed(signature)) => Ok(key.verify(body, signature, comment)?),
        }
    }
}

/// What a reader accepts as proof.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trust {
    /// A signature by this key, and nothing else.
    Key(PublicKey),
    /// Anything, signed or not: the reader asked for it.
    Anyone,
}

impl Trust {
    /// The key that must have signed; `None` where anything is accepted.
    pub fn key(&self) -> Option<&PublicKey> {
        match self {
            Self::Key(key) => Some(key),
            Self::Anyone => None,
        }
    }
}

/// A head as it was read: well-formed, not yet believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedHead {
    head: Head,
    seal: HeadSignature,
}

impl SignedHead {
    /// A head and its seal; the signature is not checked here.
    ///
    /// # Errors
    /// A head that the format does not allow.
    pub fn new(head: Head, seal: HeadSignature) -> Result<Self, HeadError> {
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
        self.seal.verify(trust, &self.body(), &self.head.trusted_comment())?;
        Ok(self.head)
    }

    /// The first of these that the head can be believed by; how the last one fails where there is none.
    ///
    /// # Errors
    /// How the signature fails.
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

    /// What it says, whoever made it.
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

/// Why a head, or another text that is sealed like one, is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTrusted {
    /// It says itself that it is not signed.
    #[error("it is not signed, and a key is pinned")]
    Unsigned,
    /// There is no key to check it with.
    #[error("no key is known for it")]
    Unknown,
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
