//! Releasing a version on the mirrors: barrier, index, and only when every mirror got so far, the heads.
//!
//! At every instant, on every mirror, the head is absent or verifies, its index is there, and so is every block of it.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::format::digest::{BlockId, Sha256};
use crate::format::head::FileRow;
use crate::format::image_list;
use crate::format::index::{BlockRow, Index};
use crate::format::keys::{PublicKey, SIGNATURE_MAX_BYTES, Signature};
use crate::format::layout::RepoPath;
use crate::format::name::Name;
use crate::format::sign::SecretKey;
use crate::publish::base::known::Known;
use crate::publish::base::presence;
use crate::publish::error::{Error, ErrorKind};
use crate::publish::repository::mirror::OpenMirror;
use crate::repo;
use crate::repo::survey::{BlockListing, ListState};
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
    /// The index of the newest version.
    pub newest: Arc<Index>,
    /// Records of retired versions, clients and other files, then signatures, then the index.
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

    /// The blocks of the newest version that a mirror does not have right, as far as it is looked at: on a local one all are
    /// looked for, everywhere some are read the way clients do. `known` says which blocks the mirror's own head, as number
    /// `place`, vouched for before.
    ///
    /// # Errors
    /// A mirror that cannot be asked.
    pub async fn lacking(&self, mirror: &OpenMirror, known: &Known, place: usize) -> Result<Vec<BlockRow>, Error> {
        let store = &*mirror.store;
        store.barrier().await?;
        let mut lacking = HashSet::new();
        if store.is_local() {
            let listing = BlockListing::of(store).await?;
            lacking = presence::not_right(mirror, &listing, self.newest.blocks().iter()).await?;
        }
        let vouched = |row: &BlockRow| known.get(&row.id).is_some_and(|k| k.holders.contains(place));
        lacking.extend(self.wrong_of_sample(mirror, vouched).await?);
        Ok(self.newest.blocks().iter().filter(|row| lacking.contains(&row.id)).copied().collect())
    }

    /// Writes the objects and reads them back.
    ///
    /// # Errors
    /// Anything that is not what it should be.
    pub async fn put_objects(&self, mirror: &OpenMirror, more: &[Object]) -> Result<Files, Error> {
        let (store, mut files) = (&*mirror.store, Files::default());
        let public = mirror.public_retried();
        let reader: &dyn Fetch = public.as_ref().map_or(store, |public| public);
        for object in more.iter().chain(&self.objects) {
            if object.write(store).await? {
                files.add(object.bytes.len() as u64);
            }
            object.check(reader).await?;
        }
        store.barrier().await?;
        Ok(files)
    }

    /// Of some blocks of the newest version, read the way clients do, those that are not right: of those that were just
    /// sent, and of the others.
    async fn wrong_of_sample(
        &self,
        mirror: &OpenMirror,
        vouched: impl Fn(&BlockRow) -> bool,
    ) -> Result<Vec<BlockId>, Error> {
        let public = mirror.public_retried();
        let reader: &dyn Fetch = public.as_ref().map_or(&*mirror.store, |public| public);
        let (old, new): (Vec<&BlockRow>, Vec<&BlockRow>) = self.newest.blocks().iter().partition(|row| vouched(row));
        let some = |rows: &[&BlockRow]| {
            let step = rows.len().div_ceil(SAMPLE).max(1);
            rows.iter().step_by(step).map(|row| **row).collect::<Vec<_>>()
        };
        let sample = [some(&new), some(&old)].concat();
        let reads = join_all(sample.iter().map(|row| repo::block(reader, row))).await;
        let mut wrong = Vec::new();
        for (row, read) in sample.iter().zip(reads) {
            match read {
                Ok(_) => {}
                Err(e) if presence::is_damage(&e) => wrong.push(row.id),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(wrong)
    }

    /// Adds the image to the list of images and replaces the head, if nobody else has meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where somebody has.
    pub async fn switch(&self, mirror: &OpenMirror) -> Result<Files, Error> {
        let mut files = Files::default();
        let list = ListState::read(&*mirror.store).await?;
        if let Some(new) = self.image_list(&list) {
            files.add(new.len() as u64);
            swap(mirror, &RepoPath::images(), list.file.as_deref(), new).await?;
        }
        let old = mirror.head.as_ref().map(|found| found.file.clone());
        swap(mirror, &RepoPath::head(&self.image), old.as_deref(), self.head.clone()).await?;
        files.add(self.head.len() as u64);
        Ok(files)
    }

    /// The list of images as it must become, `None` where the image is in it already.
    pub fn image_list(&self, list: &ListState) -> Option<Bytes> {
        let mut names = list.names.clone();
        names.insert(self.image.clone()).then(|| image_list::to_text(&names).into())
    }
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
