//! Releasing a version on the mirrors: barrier, index, and only when every mirror got so far, the heads.
//!
//! At every instant, on every mirror, the head is absent or verifies, its index is there, and so is every block of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;

use super::base;
use super::error::{Error, ErrorKind};
use super::known::Known;
use super::mirror::OpenMirror;
use super::presence::Listing;
use crate::digest::Sha256;
use crate::head::FileRow;
use crate::index::{BlockRow, Index};
use crate::keys::{PublicKey, SIGNATURE_MAX_BYTES, Signature};
use crate::layout::RepoPath;
use crate::name::Name;
use crate::read;
use crate::sign::SecretKey;
use crate::store::retry::Retried;
use crate::store::{Fetch, Put, Store, Swap};

/// Blocks re-read through a mirror's public URL before it is trusted to have them all.
const SAMPLE: usize = 16;

/// An immutable object that is not a block: an index, a signature, a client.
#[derive(Debug, Clone)]
pub struct Object {
    /// Where it lies.
    pub path: RepoPath,
    /// Its bytes.
    pub bytes: Bytes,
    /// Whose signature it is and of which bytes, where it is one. Two signatures of the same bytes differ: one that is there
    /// already and verifies stays.
    signs: Option<(PublicKey, Bytes)>,
}

/// The trusted comment of the signature beside a further file that a head names.
pub fn file_comment(path: &RepoPath) -> String {
    match path.as_str().strip_prefix("client/") {
        Some(name) => format!("hfl client {name}"),
        None => format!("hfl file {path}"),
    }
}

/// Objects that are not blocks, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Files {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Files {
    /// Counts one more.
    pub fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }

    /// Counts more of them.
    pub fn merge(&mut self, more: Self) {
        self.objects += more.objects;
        self.bytes += more.bytes;
    }
}

/// All that a mirror must hold before its head may name it.
#[derive(Debug)]
pub struct Release {
    /// The image.
    pub image: Name,
    /// The indexes of the versions that the head names, newest first.
    pub indexes: Vec<Arc<Index>>,
    /// Clients and other files, then signatures, then indexes.
    pub objects: Vec<Object>,
    /// The new head.
    pub head: Bytes,
}

impl Release {
    /// What will be written to a mirror besides blocks and the list of images.
    ///
    /// # Errors
    /// A mirror that cannot be asked what it has.
    pub async fn files(&self, store: &dyn Store, pages: &[Object]) -> Result<Files, Error> {
        let mut files = Files::default();
        for object in &self.objects {
            let bytes = object.bytes.len() as u64;
            if store.size(&object.path).await?.is_none_or(|there| there != bytes) {
                files.add(bytes);
            }
        }
        pages.iter().for_each(|page| files.add(page.bytes.len() as u64));
        files.add(self.head.len() as u64);
        Ok(files)
    }

    /// Makes sure that the blocks are on the mirror, then writes the objects and reads them back. `known` says which
    /// blocks the mirror's own head, as number `place`, vouched for before.
    ///
    /// # Errors
    /// Anything that is missing or not what it should be.
    pub async fn prepare(&self, mirror: &OpenMirror, known: &Known, place: usize) -> Result<Files, Error> {
        let store = &*mirror.store;
        store.barrier().await?;
        if store.is_local() {
            self.check_all_present(store).await?;
        }
        let public = mirror.public.clone().map(Retried::new);
        let reader: &dyn Fetch = match &public {
            Some(public) => public,
            None => store,
        };
        let vouched = |row: &BlockRow| known.get(&row.id).is_some_and(|k| k.holders.contains(place));
        self.check_sample(reader, vouched).await?;
        let mut files = Files::default();
        for object in &self.objects {
            if object.write(store).await? {
                files.add(object.bytes.len() as u64);
            }
            object.check(reader).await?;
        }
        store.barrier().await?;
        Ok(files)
    }

    /// Every block of every version is there, with a size that can be right.
    async fn check_all_present(&self, store: &dyn Store) -> Result<(), Error> {
        let listing = Listing::of(store).await?;
        for row in self.indexes.iter().flat_map(|index| index.blocks()) {
            if !listing.may_hold(row) {
                let message = format!("{}/{}: missing", store.location(), RepoPath::block(&row.id));
                return Err(Error::new(ErrorKind::Unverified, message));
            }
        }
        Ok(())
    }

    /// Some blocks of the newest version, read the way clients do: of those that were just sent, and of the others.
    async fn check_sample(&self, reader: &dyn Fetch, vouched: impl Fn(&BlockRow) -> bool) -> Result<(), Error> {
        let (old, new): (Vec<&BlockRow>, Vec<&BlockRow>) =
            self.indexes[0].blocks().iter().partition(|row| vouched(row));
        let some = |rows: &[&BlockRow]| {
            let step = rows.len().div_ceil(SAMPLE).max(1);
            rows.iter().step_by(step).map(|row| **row).collect::<Vec<_>>()
        };
        let sample = [some(&new), some(&old)].concat();
        try_join_all(sample.iter().map(|row| read::block(reader, row))).await?;
        Ok(())
    }

    /// Adds the image to the list of images and replaces the head, if nobody else has meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where somebody has.
    pub async fn switch(&self, mirror: &OpenMirror) -> Result<Files, Error> {
        let mut files = Files::default();
        if let Some(list) = self.image_list(mirror).await? {
            files.add(list.len() as u64);
            let old = base::images(mirror).await?;
            swap(mirror, &RepoPath::images(), list_text(&old).as_deref(), list).await?;
        }
        let old = mirror.head.as_ref().map(|found| found.file.clone());
        swap(mirror, &RepoPath::head(&self.image), old.as_deref(), self.head.clone()).await?;
        files.add(self.head.len() as u64);
        Ok(files)
    }

    /// The list of images as it must become, `None` where the image is in it already.
    ///
    /// # Errors
    /// A list that cannot be read.
    pub async fn image_list(&self, mirror: &OpenMirror) -> Result<Option<Bytes>, Error> {
        let mut names = base::images(mirror).await?;
        Ok(if names.insert(self.image.clone()) { list_text(&names) } else { None })
    }
}

/// The text of a list of images; none is no list.
pub(super) fn list_text(names: &BTreeSet<Name>) -> Option<Bytes> {
    (!names.is_empty()).then(|| names.iter().map(|n| format!("{n}\n")).collect::<String>().into())
}

/// Replaces what nobody else has replaced meanwhile.
async fn swap(mirror: &OpenMirror, path: &RepoPath, old: Option<&[u8]>, new: Bytes) -> Result<(), Error> {
    match mirror.store.swap(path, old, new).await? {
        Swap::Done => Ok(()),
        Swap::Changed => {
            let message = format!("{}/{path}: changed by another publisher meanwhile", mirror.store.location());
            Err(Error::new(ErrorKind::Conflict, message).hint("run the same command again"))
        }
    }
}

impl Object {
    /// An object that has these bytes and no others.
    pub fn new(path: RepoPath, bytes: impl Into<Bytes>) -> Self {
        Self { path, bytes: bytes.into(), signs: None }
    }

    /// The signature of this object; `comment` is its trusted comment.
    ///
    /// # Errors
    /// A key that cannot sign.
    pub fn signature(&self, key: &SecretKey, comment: &str) -> Result<Self, Error> {
        let signature = key.sign(&self.bytes, comment).map_err(|e| Error::local(e.to_string()))?;
        let signs = Some((key.public().clone(), self.bytes.clone()));
        Ok(Self { signs, ..Self::new(self.path.signature(), signature.text().to_owned()) })
    }

    /// By which a head names it.
    pub fn row(&self) -> FileRow {
        FileRow { path: self.path.clone(), bytes: self.bytes.len() as u64, sha256: Sha256::of(&self.bytes) }
    }

    /// Creates the object; one that is there with other bytes is damaged, and replaced. Whether it was written.
    async fn write(&self, store: &dyn Store) -> Result<bool, Error> {
        let put = store.put_new(&self.path, self.bytes.clone()).await?;
        if put == Put::Exists && self.check(store).await.is_ok() {
            return Ok(false);
        }
        if put == Put::Exists {
            store.put_replace(&self.path, self.bytes.clone()).await?;
        }
        Ok(true)
    }

    async fn check(&self, reader: &dyn Fetch) -> Result<(), Error> {
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
        let signature = std::str::from_utf8(found).ok().and_then(|text| text.parse::<Signature>().ok());
        signature.is_some_and(|signature| key.verify(signed, &signature, "").is_ok())
    }
}
