//! Verified objects out of a store: the head of an image, the index of a version, a block.
//!
//! Nothing leaves this module that was not checked against what vouches for it: the head against the key, the index
//! against the head, the block against the index.

mod error;
pub mod source;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::block::{Block, zlib_max_bytes};
use crate::digest::Sha256;
use crate::head::{HEAD_MAX_BYTES, Head, SealedHead, Trust, VersionRow};
use crate::index::{BlockRow, Index};
use crate::layout::RepoPath;
use crate::name::{Name, Version};
use crate::store::{Fetch, StoreErrorKind};

pub use error::{ReadError, ReadErrorKind};

/// A head that was believed, and the bytes it was read from.
#[derive(Debug, Clone)]
pub struct FoundHead {
    /// What it says.
    pub head: Head,
    /// Its file.
    pub file: Bytes,
    /// Whether it is signed.
    pub signed: bool,
}

/// The head of `image`, if the store has one.
///
/// # Errors
/// A store that fails; a head that is malformed, is another image's, or is not believed.
pub async fn head(store: &dyn Fetch, image: &Name, trust: &Trust) -> Result<Option<FoundHead>, ReadError> {
    let path = RepoPath::head(image);
    let file = match store.get(&path, HEAD_MAX_BYTES).await {
        Err(e) if e.kind() == StoreErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let sealed = SealedHead::parse(&file).map_err(|e| ReadError::unverified(store, &path, e))?;
    let signed = sealed.is_signed();
    let head = sealed.verify(trust).map_err(|e| ReadError::unverified(store, &path, e))?;
    if head.image != *image {
        return Err(ReadError::unverified(store, &path, format!("this is the head of image {}", head.image)));
    }
    Ok(Some(FoundHead { head, file, signed }))
}

/// The index of one version, exactly the one the head names.
///
/// # Errors
/// A store that fails; a file with another digest, or another image's or version's index.
pub async fn index(store: &dyn Fetch, image: &Name, row: &VersionRow) -> Result<Index, ReadError> {
    let path = row.index_path(image);
    let file = store.get(&path, row.index_bytes).await?;
    let wrong = |why: String| ReadError::unverified(store, &path, why);
    if Sha256::of(&file) != row.index_sha256 {
        return Err(wrong("not the index that the head names (its SHA-256 differs)".into()));
    }
    let index = Index::parse(&file).map_err(|e| wrong(e.to_string()))?;
    let header = index.header();
    if header.image != *image || header.version != row.version || header.size != row.size {
        let why = format!("this is the index of {} version {}", header.image, header.version);
        return Err(wrong(why));
    }
    Ok(index)
}

/// Where blocks come from: a mirror, several, or a cache in front of them.
#[async_trait]
pub trait BlockSource: Send + Sync + fmt::Debug {
    /// The block that `row` lists, checked.
    ///
    /// # Errors
    /// Where it could not be had, and why.
    async fn block(&self, row: &BlockRow) -> Result<Arc<Block>, ReadError>;
}

/// One store as a source of blocks.
#[derive(Debug, Clone)]
pub struct Mirror(pub Arc<dyn Fetch>);

#[async_trait]
impl BlockSource for Mirror {
    async fn block(&self, row: &BlockRow) -> Result<Arc<Block>, ReadError> {
        let path = RepoPath::block(&row.id);
        let file = self.0.get(&path, zlib_max_bytes(row.bytes)).await?;
        let row = *row;
        let opened = open_block(row, file).await;
        opened.map(Arc::new).map_err(|why| ReadError::unverified(&*self.0, &path, why))
    }
}

/// Inflates and checks a block's file on a thread that may be busy for a while.
pub async fn open_block(row: BlockRow, file: Bytes) -> Result<Block, String> {
    let opened = tokio::task::spawn_blocking(move || Block::open(&row, &file)).await;
    opened.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// Several sources, tried in turn, beginning with the one that answered last.
#[derive(Debug)]
pub struct Failover<S> {
    sources: Vec<S>,
    preferred: std::sync::atomic::AtomicUsize,
}

impl<S> Failover<S> {
    /// These sources, the first one preferred at the start.
    pub fn new(sources: Vec<S>) -> Self {
        Self { sources, preferred: 0.into() }
    }
}

#[async_trait]
impl<S: BlockSource> BlockSource for Failover<S> {
    async fn block(&self, row: &BlockRow) -> Result<Arc<Block>, ReadError> {
        use std::sync::atomic::Ordering::Relaxed;
        let first = self.preferred.load(Relaxed);
        let mut last = None;
        for i in 0..self.sources.len() {
            let at = (first + i) % self.sources.len();
            match self.sources[at].block(row).await {
                Ok(block) => {
                    if i > 0 {
                        self.preferred.store(at, Relaxed);
                    }
                    return Ok(block);
                }
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(ReadError::no_source))
    }
}

/// An image as a reader opened it: one version, believed.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The head that vouches for it.
    pub head: Head,
    /// The row of the version.
    pub row: VersionRow,
    /// Its index.
    pub index: Arc<Index>,
}

/// Opens `version` (the newest where `None`) of `image` from the stores: the highest believed head of all of them wins,
/// and the index comes from any that has it.
///
/// # Errors
/// When no store has a head that is believed, or none the index; the last reason is given.
pub async fn open(
    stores: &[Arc<dyn Fetch>],
    image: &Name,
    trust: &Trust,
    version: Option<Version>,
) -> Result<Opened, ReadError> {
    let head = newest_head(stores, image, trust).await?;
    let row = match version {
        None => head.newest(),
        Some(version) => head.version(version).ok_or_else(|| ReadError::no_version(&head, version))?,
    };
    let mut last = None;
    for store in stores {
        match index(&**store, image, row).await {
            Ok(index) => return Ok(Opened { row: row.clone(), index: Arc::new(index), head }),
            Err(e) => last = Some(e),
        }
    }
    Err(last.unwrap_or_else(ReadError::no_source))
}

/// The believed head with the highest version of all stores; they are asked one after the other.
async fn newest_head(stores: &[Arc<dyn Fetch>], image: &Name, trust: &Trust) -> Result<Head, ReadError> {
    let mut best: Option<Head> = None;
    let mut last = None;
    for store in stores {
        match head(&**store, image, trust).await {
            Ok(Some(found)) if best.as_ref().is_none_or(|b| b.newest().version < found.head.newest().version) => {
                best = Some(found.head);
            }
            Ok(Some(_)) => {}
            Ok(None) => last = Some(ReadError::no_image(&**store, image)),
            Err(e) => last = Some(e),
        }
    }
    best.ok_or_else(|| last.unwrap_or_else(ReadError::no_source))
}
