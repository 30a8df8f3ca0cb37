//! Repository objects that are not blocks: indexes, signatures, records, programs, pages.

use bytes::Bytes;

use crate::error::{Error, ErrorKind};
use crate::format::comment;
use crate::format::digest::Sha256;
use crate::format::head::FileRow;
use crate::format::layout::RepoPath;
use crate::format::signature::{PublicKey, SIGNATURE_MAX_BYTES, Signature};
use crate::format::signing::SecretKey;
use crate::store::{Fetch, Put, Store};

/// An immutable object that is not a block: an index, a signature, a client.
#[derive(Debug, Clone)]
pub struct Object {
    /// Path in the repository.
    pub path: RepoPath,
    /// Contents.
    pub bytes: Bytes,
    /// For a signature: the key and the signed bytes. Two signatures of the same bytes differ, so an existing one that
    /// verifies stays.
    signs: Option<(PublicKey, Bytes)>,
}

impl Object {
    /// An object with these contents that must match byte for byte.
    pub fn new(path: RepoPath, bytes: impl Into<Bytes>) -> Self {
        Self { path, bytes: bytes.into(), signs: None }
    }

    /// The signature of this object; `comment` is its trusted comment.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn signature(&self, key: &SecretKey, comment: &str) -> Result<Self, Error> {
        let signature = key.sign(&self.bytes, comment).map_err(|e| Error::local(e.to_string()))?;
        let signs = Some((key.public().clone(), self.bytes.clone()));
        Ok(Self { signs, ..Self::new(self.path.signature(), signature.text().to_owned()) })
    }

    /// A further file that a head names, preceded by its signature if there is a key.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn with_signature(self, key: Option<&SecretKey>) -> Result<impl Iterator<Item = Self>, Error> {
        let signature = key.map(|key| self.signature(key, &comment::file(&self.path))).transpose()?;
        Ok(signature.into_iter().chain([self]))
    }

    /// The row by which a head names it.
    pub fn row(&self) -> FileRow {
        FileRow { path: self.path.clone(), bytes: self.bytes.len() as u64, sha256: Sha256::of(&self.bytes) }
    }

    /// Creates the object; an existing one with other contents is damaged and is replaced. Returns whether it was
    /// written.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn write(&self, store: &dyn Store) -> Result<bool, Error> {
        let put = store.put_new(&self.path, self.bytes.clone()).await?;
        if put == Put::Exists && self.check(store).await.is_ok() {
            return Ok(false);
        }
        if put == Put::Exists {
            store.put_replace(&self.path, self.bytes.clone()).await?;
        }
        Ok(true)
    }

    /// Whether the store has exactly these bytes.
    pub async fn is_held_by(&self, store: &dyn Store) -> bool {
        store.get(&self.path, self.bytes.len() as u64).await.is_ok_and(|found| found == self.bytes)
    }

    /// Reads the object back.
    ///
    /// # Errors
    /// It cannot be read, or has other contents.
    pub async fn check(&self, reader: &dyn Fetch) -> Result<(), Error> {
        let most = if self.signs.is_some() { SIGNATURE_MAX_BYTES } else { self.bytes.len() };
        let found = reader.get(&self.path, most as u64).await?;
        if found == self.bytes || self.is_as_good(&found) {
            return Ok(());
        }
        let message = format!("{}/{}: reads back with other bytes than were written", reader.location(), self.path);
        Err(Error::new(ErrorKind::Unverified, message))
    }

    /// Whether this is another signature of the same bytes by the same key.
    fn is_as_good(&self, found: &[u8]) -> bool {
        let Some((key, signed)) = &self.signs else { return false };
        Signature::of_file(found).is_some_and(|signature| key.verify(signed, &signature, "").is_ok())
    }
}

/// A number of objects that are not blocks, and their total size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Files {
    /// Number of objects.
    pub objects: u64,
    /// Total size in bytes.
    pub bytes: u64,
}

impl Files {
    /// Counts one more object.
    pub fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }

    /// Adds the counts of `more`.
    pub fn merge(&mut self, more: Self) {
        self.objects += more.objects;
        self.bytes += more.bytes;
    }
}
