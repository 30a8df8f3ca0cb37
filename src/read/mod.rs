//! Verified objects out of a store: the head of an image, the index of a version, a block.
//!
//! Nothing leaves this module that was not checked against what vouches for it: the head against the key, the index
//! against the head, the block against the index.

mod error;
pub mod source;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::block::{BadBlock, Block, unwrapped, zlib_max_bytes};
use crate::digest::Sha256;
use crate::head::{HEAD_MAX_BYTES, Head, SealedHead, Trust, VersionRow};
use crate::index::{BlockRow, Index};
use crate::layout::RepoPath;
use crate::name::{Name, Version};
use crate::store::{Fetch, StoreErrorKind};

pub use error::{ReadError, ReadErrorKind};

/// What a server may wrap around a block makes it longer by this part of it at most.
const WRAPPER_PART: u64 = 16;
/// How many stores are asked for a head at the same time.
const HEADS_AT_ONCE: usize = 3;
/// How long the others of these may still answer once one head is there: a newer one is worth no more.
const SECOND_HEAD_WAIT: Duration = Duration::from_secs(2);

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
    let (file, sealed) = match (SealedHead::parse(&file), unwrapped(&file, HEAD_MAX_BYTES)) {
        (Err(_), Some(plain)) => {
            let sealed = SealedHead::parse(&plain);
            (plain.into(), sealed)
        }
        (sealed, _) => (file, sealed),
    };
    let sealed = sealed.map_err(|e| ReadError::unverified(store, &path, e))?;
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
    let mut file = store.get(&path, row.index_bytes).await?;
    let wrong = |why: String| ReadError::unverified(store, &path, why);
    if let Some(plain) = unwrapped(&file, row.index_bytes) {
        file = plain.into();
    }
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

    /// The same, with the block's file where it had to be fetched: what a cache on a disk keeps.
    ///
    /// # Errors
    /// Those of [`BlockSource::block`].
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        Ok(Fetched { block: self.block(row).await?, file: None })
    }
}

/// A block, checked, and the file it was opened from.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The block.
    pub block: Arc<Block>,
    /// Its file; `None` where it did not come over a network.
    pub file: Option<Bytes>,
}

#[async_trait]
impl<S: BlockSource + ?Sized> BlockSource for Arc<S> {
    async fn block(&self, row: &BlockRow) -> Result<Arc<Block>, ReadError> {
        (**self).block(row).await
    }

    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        (**self).fetch(row).await
    }
}

/// One store as a source of blocks.
#[derive(Debug, Clone)]
pub struct Mirror(pub Arc<dyn Fetch>);

#[async_trait]
impl BlockSource for Mirror {
    async fn block(&self, row: &BlockRow) -> Result<Arc<Block>, ReadError> {
        Ok(self.fetch(row).await?.block)
    }

    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        let (block, file) = block(&*self.0, row).await?;
        Ok(Fetched { block: Arc::new(block), file: Some(file) })
    }
}

/// The block that `row` lists, checked, and its file as the store has it.
///
/// # Errors
/// A store that fails; a file that is not this block's.
pub async fn block(store: &dyn Fetch, row: &BlockRow) -> Result<(Block, Bytes), ReadError> {
    let path = RepoPath::block(&row.id);
    let max_bytes = zlib_max_bytes(row.bytes);
    let file = store.get(&path, max_bytes + max_bytes / WRAPPER_PART).await?;
    let row = *row;
    // On a thread that may be busy for a while.
    let opened = tokio::task::spawn_blocking(move || open_block(&row, file)).await;
    let opened = opened.map_err(|e| e.to_string()).and_then(|opened| opened.map_err(|e| e.to_string()));
    opened.map_err(|why| ReadError::unverified(store, &path, why))
}

/// Checks a block's file, first as it was received, then without what the server may have wrapped around it.
fn open_block(row: &BlockRow, file: Bytes) -> Result<(Block, Bytes), BadBlock> {
    match (Block::open(row, &file), unwrapped(&file, zlib_max_bytes(row.bytes))) {
        (Ok(block), _) => Ok((block, file)),
        (Err(_), Some(plain)) => Ok((Block::open(row, &plain)?, plain.into())),
        (Err(bad), None) => Err(bad),
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
    let (head, from) = newest_head(stores, image, trust).await?;
    let row = match version {
        None => head.newest(),
        Some(version) => head.version(version).ok_or_else(|| ReadError::no_version(&head, version))?,
    };
    let mut last = None;
    // Where the head came from works; the others may take their time to show that they do not.
    let others = stores.iter().filter(|store| !Arc::ptr_eq(store, &from));
    for store in std::iter::once(&from).chain(others) {
        match index(&**store, image, row).await {
            Ok(index) => return Ok(Opened { row: row.clone(), index: Arc::new(index), head }),
            Err(e) => last = Some(e),
        }
    }
    Err(last.unwrap_or_else(ReadError::no_source))
}

/// A head, and the store that it came from.
type HeadFrom = (Head, Arc<dyn Fetch>);

/// The believed head with the highest version of all stores that answered; a few are asked at once, the next few only
/// where none of those had one.
async fn newest_head(stores: &[Arc<dyn Fetch>], image: &Name, trust: &Trust) -> Result<HeadFrom, ReadError> {
    let mut failed: Option<ReadError> = None;
    for few in stores.chunks(HEADS_AT_ONCE) {
        match newest_of(few, image, trust).await {
            Ok(found) => return Ok(found),
            Err(e) => failed = Some(failed.map_or(e.clone(), |f| f.more_telling(e))),
        }
    }
    Err(failed.unwrap_or_else(ReadError::no_source))
}

async fn newest_of(stores: &[Arc<dyn Fetch>], image: &Name, trust: &Trust) -> Result<HeadFrom, ReadError> {
    let mut asked = tokio::task::JoinSet::new();
    for store in stores {
        let (store, image, trust) = (Arc::clone(store), image.clone(), trust.clone());
        asked.spawn(async move {
            let found = head(&*store, &image, &trust).await?;
            let found = found.ok_or_else(|| ReadError::no_image(&*store, &image))?;
            Ok::<_, ReadError>((found.head, store))
        });
    }
    let (mut best, mut failed): (Option<HeadFrom>, Option<ReadError>) = (None, None);
    loop {
        let patience = if best.is_some() { SECOND_HEAD_WAIT } else { Duration::MAX };
        match tokio::time::timeout(patience, asked.join_next()).await {
            Err(_) | Ok(None) => break,
            Ok(Some(Err(panicked))) => std::panic::resume_unwind(panicked.into_panic()),
            Ok(Some(Ok(Ok(found)))) => {
                let newer = best.as_ref().is_none_or(|(b, _)| b.newest().version < found.0.newest().version);
                best = if newer { Some(found) } else { best };
            }
            Ok(Some(Ok(Err(e)))) => failed = Some(failed.map_or(e.clone(), |f| f.more_telling(e))),
        }
    }
    best.ok_or_else(|| failed.unwrap_or_else(ReadError::no_source))
}
