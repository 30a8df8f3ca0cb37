//! Releasing a version on the mirrors: barrier, index, and only when every mirror got so far, the heads.
//!
//! At every instant, on every mirror, the head is absent or verifies, its index is there, and so is every block of it.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::error::{Error, ErrorKind};
use crate::format::digest::BlockId;
use crate::format::image_list;
use crate::format::index::{BlockRow, Index};
use crate::format::layout::RepoPath;
use crate::format::name::Name;
use crate::publish::base::block_holders::BlockHolders;
use crate::publish::base::listing;
use crate::publish::object::{Files, Object};
use crate::publish::repository::mirror::OpenMirror;
use crate::repo;
use crate::repo::survey::{BlockListing, ListState};
use crate::store::{Fetch, Store, Swap};

/// Blocks re-read through a mirror's public URL before it is trusted to have them all.
const SAMPLE: usize = 16;

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
    pub async fn lacking(
        &self,
        mirror: &OpenMirror,
        known: &BlockHolders,
        place: usize,
    ) -> Result<Vec<BlockRow>, Error> {
        let store = &*mirror.store;
        store.barrier().await?;
        let mut lacking = HashSet::new();
        if store.is_local() {
            let listing = BlockListing::of(store).await?;
            lacking = listing::not_right(mirror, &listing, self.newest.blocks().iter()).await?;
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
                Err(e) if listing::is_damage(&e) => wrong.push(row.id),
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
