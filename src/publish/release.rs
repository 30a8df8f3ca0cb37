//! Releasing a version on the mirrors: barrier, index, and only when every mirror got so far, the heads.
//!
//! At every instant, on every mirror, the head is absent or verifies, its index is there, and so is every block of it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::base;
use super::error::{Error, ErrorKind};
use super::mirror::OpenMirror;
use crate::block::zlib_max_bytes;
use crate::index::{BlockRow, Index};
use crate::layout::{Kind, RepoPath};
use crate::name::Name;
use crate::read;
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
    /// Makes sure that every block is on the mirror, then writes the objects and reads them back.
    ///
    /// # Errors
    /// Anything that is missing or not what it should be.
    pub async fn prepare(&self, mirror: &OpenMirror) -> Result<(), Error> {
        let store = &*mirror.store;
        store.barrier().await?;
        if store.is_local() {
            self.check_all_present(store).await?;
        }
        let reader: &dyn Fetch = match &mirror.public {
            Some(public) => &**public,
            None => store,
        };
        self.check_sample(reader).await?;
        for object in &self.objects {
            object.write(store).await?;
            object.check(reader).await?;
        }
        Ok(store.barrier().await?)
    }

    /// Every block of every version is there, with a size that can be right.
    async fn check_all_present(&self, store: &dyn Store) -> Result<(), Error> {
        let mut sizes = HashMap::new();
        for entry in store.list("blocks").await? {
            if let Kind::Block(id) = entry.path.kind() {
                sizes.insert(id, entry.bytes);
            }
        }
        for row in self.indexes.iter().flat_map(|index| index.blocks()) {
            let right = |bytes: &u64| (1..=zlib_max_bytes(row.bytes)).contains(bytes);
            if sizes.get(&row.id).is_none_or(|bytes| !right(bytes)) {
                let message = format!("{}/{}: missing", store.location(), RepoPath::block(&row.id));
                return Err(Error::new(ErrorKind::Unverified, message));
            }
        }
        Ok(())
    }

    /// Some blocks of the newest version, read the way clients do.
    async fn check_sample(&self, reader: &dyn Fetch) -> Result<(), Error> {
        for row in self.sample() {
            read::block(reader, row).await?;
        }
        Ok(())
    }

    fn sample(&self) -> impl Iterator<Item = &BlockRow> {
        let blocks = self.indexes[0].blocks();
        blocks.iter().step_by(blocks.len().div_ceil(SAMPLE).max(1))
    }

    /// Adds the image to the list of images and replaces the head, if nobody else has meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where somebody has.
    pub async fn switch(&self, mirror: &OpenMirror) -> Result<(), Error> {
        self.list_image(mirror).await?;
        let old = mirror.head.as_ref().map(|found| found.file.clone());
        let path = RepoPath::head(&self.image);
        match mirror.store.swap(&path, old.as_deref(), self.head.clone()).await? {
            Swap::Done => Ok(()),
            Swap::Changed => {
                let message = format!("{}/{path}: changed by another publisher meanwhile", mirror.store.location());
                Err(Error::new(ErrorKind::Conflict, message).hint("run the same command again"))
            }
        }
    }

    async fn list_image(&self, mirror: &OpenMirror) -> Result<(), Error> {
        let mut names = base::images(mirror).await?;
        let text =
            |names: &std::collections::BTreeSet<Name>| names.iter().map(|n| format!("{n}\n")).collect::<String>();
        let old = text(&names);
        if !names.insert(self.image.clone()) {
            return Ok(());
        }
        let old = if old.is_empty() { None } else { Some(old.as_bytes()) };
        match mirror.store.swap(&RepoPath::images(), old, text(&names).into()).await? {
            Swap::Done => Ok(()),
            Swap::Changed => {
                let message = format!("{}/images: changed by somebody else meanwhile", mirror.store.location());
                Err(Error::new(ErrorKind::Conflict, message).hint("run the same command again"))
            }
        }
    }
}

impl Object {
    /// Creates the object; one that is there with other bytes is damaged, and replaced.
    async fn write(&self, store: &dyn Store) -> Result<(), Error> {
        let put = store.put_new(&self.path, self.bytes.clone()).await?;
        if put == Put::Exists && self.check(store).await.is_err() {
            store.put_replace(&self.path, self.bytes.clone()).await?;
        }
        Ok(())
    }

    async fn check(&self, reader: &dyn Fetch) -> Result<(), Error> {
        let found = reader.get(&self.path, self.bytes.len() as u64).await?;
        if found == self.bytes {
            return Ok(());
        }
        let message = format!("{}/{}: reads back with other bytes than were written", reader.location(), self.path);
        Err(Error::new(ErrorKind::Unverified, message))
    }
}
