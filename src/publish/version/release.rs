//! Releases a version on the mirrors: barrier, index, and once every mirror got that far, the heads.
//!
//! At every instant, on every mirror, the head is absent or verifies, and its index and all its blocks are present.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::error::{Error, ErrorKind};
use crate::format::block::BlockRow;
use crate::format::digest::BlockId;
use crate::format::image_list;
use crate::format::index::Index;
use crate::format::layout::RepoPath;
use crate::format::name::Name;
use crate::publish::base::block_holders::BlockHolders;
use crate::publish::base::listing;
use crate::publish::object::{Files, Object};
use crate::publish::repository::mirror::OpenMirror;
use crate::repo;
use crate::repo::survey::{BlockListing, ListState};
use crate::store::{Fetch, Store, Swap};

/// Sample size of the re-read through a mirror's public URL, for new and for old blocks each.
const SAMPLE: usize = 16;

/// Everything that a mirror must hold before its head may name the version.
#[derive(Debug)]
pub struct Release {
    /// Image name.
    pub image: Name,
    /// The index of the newest version.
    pub newest: Arc<Index>,
    /// Records of retired versions, clients and other files, then signatures, then the index.
    pub objects: Vec<Object>,
    /// The new head file.
    pub head: Bytes,
}

impl Release {
    /// What will be written to a mirror besides blocks and the image list.
    ///
    /// # Errors
    /// The mirror cannot be queried.
    pub async fn files(&self, store: &dyn Store, pages: &[Object]) -> Result<Files, Error> {
        let mut files = Files::default();
        for object in &self.objects {
            let bytes = object.bytes.len() as u64;
            if store.size(&object.path).await?.is_none_or(|there| there != bytes) {
                files.add(bytes);
            }
        }
        for page in pages {
            if !page.is_held_by(store).await {
                files.add(page.bytes.len() as u64);
            }
        }
        files.add(self.head.len() as u64);
        Ok(files)
    }

    /// The blocks of the newest version that are missing or damaged on a mirror, as far as it is checked. A local
    /// mirror is checked for all blocks. Every mirror is checked by a sample read the way clients read. `known` tells
    /// which blocks the previous head of the mirror at index `place` vouched for.
    ///
    /// # Errors
    /// The mirror cannot be queried.
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
    /// A write fails, or an object reads back wrong.
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

    /// The damaged blocks in two samples of the newest version, read the way clients read: one of blocks just sent, one
    /// of the others.
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

    /// Adds the image to the image list and replaces the head, unless another publisher changed them meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if another publisher changed them.
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

    /// The new image list; `None` if it already contains the image.
    pub fn image_list(&self, list: &ListState) -> Option<Bytes> {
        let mut names = list.names.clone();
        names.insert(self.image.clone()).then(|| image_list::to_text(&names).into())
    }
}

/// Replaces an object unless another publisher changed it meanwhile.
async fn swap(mirror: &OpenMirror, path: &RepoPath, old: Option<&[u8]>, new: Bytes) -> Result<(), Error> {
    match mirror.store.swap(path, old, new).await? {
        Swap::Done => Ok(()),
        Swap::Changed => {
            let message = format!("{}/{path}: changed by another publisher meanwhile", mirror.store.location());
            Err(Error::new(ErrorKind::Conflict, message).hint("run the same command again"))
        }
    }
}
