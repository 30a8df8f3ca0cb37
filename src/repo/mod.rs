//! Verified objects out of a store: the head of an image, the index of a version, a block.
//!
//! Nothing leaves this module that was not checked against what vouches for it: the head against the key, the index
//! against the head, the block against the index.

mod error;
mod file;
mod key;
mod open;
mod options;
pub mod rollback;
pub mod source;
mod staggered;
mod state;
#[cfg(feature = "publish")]
pub mod survey;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::format::block::{BadBlock, Block, unwrapped, zlib_max_bytes};
use crate::format::digest::{BlockId, Sha256};
use crate::format::head::{HEAD_MAX_BYTES, Head, SignedHead, Trust, VersionRow};
use crate::format::index::{BlockRow, Index};
use crate::format::layout::RepoPath;
use crate::format::name::Name;
use crate::format::text::FormatError;
use crate::store::{Fetch, Freshness, StoreErrorKind};
use crate::system::bridge;

pub use error::{ReadError, ReadErrorKind};
pub use file::{file, file_from};
pub use key::{GivenKeyError, given_key};
pub use open::{AcceptedHead, Opened, open, open_head};
pub use options::{OpenOptions, Warning};
#[cfg(feature = "publish")]
pub(crate) use staggered::Staggered;
pub use state::{StateDirectory, StateError, user_directory};

/// Blocks that one mirror is known to lack; they are forgotten where there are more.
const MISSING_MAX: usize = 4096;
/// How long a block may take until another store is asked for it as well.
const BLOCK_WAIT: Duration = Duration::from_secs(1);
/// What a server may wrap around a block makes it longer by this part of it at most.
const WRAPPER_PART: u64 = 16;

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
    let (file, sealed) = parse_head(file);
    let sealed = sealed.map_err(|e| ReadError::unverified(store, &path, e).passing())?;
    let signed = sealed.is_signed();
    let head = sealed.verify(trust).map_err(|e| ReadError::unverified(store, &path, e))?;
    if head.image != *image {
        return Err(ReadError::unverified(store, &path, format!("this is the head of image {}", head.image)));
    }
    Ok(Some(FoundHead { head, file, signed }))
}

/// Reads a head, not yet believed, and its file without what a server may have wrapped around it.
pub fn parse_head(file: Bytes) -> (Bytes, Result<SignedHead, FormatError>) {
    match (SignedHead::parse(&file), unwrapped(&file, HEAD_MAX_BYTES)) {
        (Err(_), Some(plain)) => {
            let sealed = SignedHead::parse(&plain);
            (plain.into(), sealed)
        }
        (sealed, _) => (file, sealed),
    }
}

/// The index of one version, exactly the one the head names.
///
/// # Errors
/// A store that fails; a file with another digest, or another image's or version's index.
pub async fn index(store: &dyn Fetch, image: &Name, row: &VersionRow) -> Result<Index, ReadError> {
    let path = row.index_path(image);
    let checked = get_checked(store, &path, row.index_bytes, Confirm::WrongOrMissing, |file| {
        let checked = checked_index(file, image, row);
        async move { checked }
    });
    checked.await.map_err(ReadError::passing)
}

fn checked_index(mut file: Bytes, image: &Name, row: &VersionRow) -> Result<Index, String> {
    if let Some(plain) = unwrapped(&file, row.index_bytes) {
        file = plain.into();
    }
    if Sha256::of(&file) != row.index_sha256 {
        return Err("not the index that the head names (its SHA-256 differs)".into());
    }
    let index = Index::parse(&file).map_err(|e| e.to_string())?;
    let header = index.header();
    if header.image != *image || header.version != row.version || header.size != row.size {
        return Err(format!("this is the index of {} version {}", header.image, header.version));
    }
    Ok(index)
}

/// When an object is asked for with caches on the way told not to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confirm {
    /// Once more after an answer that was wrong, or was not whole.
    Wrong,
    /// After one that there is no such object, too.
    WrongOrMissing,
    /// At the first time.
    Always,
}

/// An object that passes its check. One that does not is fetched once more, with caches on the way told not to answer: it
/// may have been damaged in one of them, which would give it out for ever.
///
/// A cache may as well keep an answer that the object is not there, from before it was: what is asked for here is vouched
/// for by something signed, so it should be. But mirrors that lag do lack blocks, and many; they are not asked twice for
/// each, see [`Mirror`].
async fn get_checked<T, F>(
    store: &dyn Fetch,
    path: &RepoPath,
    max_bytes: u64,
    confirm: Confirm,
    check: impl Fn(Bytes) -> F,
) -> Result<T, ReadError>
where
    F: Future<Output = Result<T, String>>,
{
    let confirmed = async || match store.get_with(path, max_bytes, Freshness::Confirmed).await {
        Ok(file) => check(file).await.map_err(|why| ReadError::unverified(store, path, why)),
        Err(e) => Err(e.into()),
    };
    if confirm == Confirm::Always {
        return confirmed().await;
    }
    let first = match store.get_with(path, max_bytes, Freshness::Cached).await {
        Ok(file) => match check(file).await {
            Ok(checked) => return Ok(checked),
            Err(why) => ReadError::unverified(store, path, why),
        },
        Err(e) if e.kind() == StoreErrorKind::TooLong || e.is_cut() => e.into(),
        Err(e) if e.kind() == StoreErrorKind::NotFound && confirm == Confirm::WrongOrMissing => e.into(),
        Err(e) => return Err(e.into()),
    };
    match confirmed().await {
        // Bytes that are wrong again are told; why they did not come, only of the first time.
        Err(e) if e.kind() != ReadErrorKind::Unverified => Err(first),
        answer => answer,
    }
}

/// Where blocks come from: a mirror, several, or a cache in front of them.
#[async_trait]
pub trait BlockSource: Send + Sync + fmt::Debug {
    /// The block that `row` lists, checked, and its file where it had to be fetched: what a cache on a disk keeps.
    ///
    /// # Errors
    /// Where it could not be had, and why.
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError>;

    /// The block alone.
    ///
    /// # Errors
    /// Those of [`BlockSource::fetch`].
    async fn block(&self, row: &BlockRow) -> Result<Arc<Block>, ReadError> {
        Ok(self.fetch(row).await?.block)
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

impl From<Arc<Block>> for Fetched {
    /// A block that did not come over a network.
    fn from(block: Arc<Block>) -> Self {
        Self { block, file: None }
    }
}

#[async_trait]
impl<S: BlockSource + ?Sized> BlockSource for Arc<S> {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        (**self).fetch(row).await
    }
}

/// One store as a source of blocks.
///
/// A block that is not there is asked for once, since it is most likely missing and other mirrors have it. Whoever asks
/// for it again has found no other mirror: then caches on the way are told not to answer.
#[derive(Debug)]
pub struct Mirror {
    store: Arc<dyn Fetch>,
    is_only: bool,
    missing: Mutex<HashSet<BlockId>>,
}

impl Mirror {
    /// One of several.
    pub fn new(store: Arc<dyn Fetch>) -> Self {
        Self { store, is_only: false, missing: Mutex::default() }
    }

    /// The only one: nobody else can have what is missing, so it is asked again at once.
    pub fn only(store: Arc<dyn Fetch>) -> Self {
        Self { is_only: true, ..Self::new(store) }
    }

    fn missing(&self) -> MutexGuard<'_, HashSet<BlockId>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl BlockSource for Mirror {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        let was_missing = self.missing().contains(&row.id);
        let confirm = match (was_missing, self.is_only) {
            (true, _) => Confirm::Always,
            (_, true) => Confirm::WrongOrMissing,
            _ => Confirm::Wrong,
        };
        let answer = checked_block(&*self.store, row, confirm).await;
        match &answer {
            Ok(_) if was_missing => {
                self.missing().remove(&row.id);
            }
            Err(e) if e.kind() == ReadErrorKind::Store(StoreErrorKind::NotFound) => {
                let mut missing = self.missing();
                if missing.len() >= MISSING_MAX {
                    missing.clear();
                }
                missing.insert(row.id);
            }
            _ => {}
        }
        let (block, file) = answer?;
        Ok(Fetched { block: Arc::new(block), file: Some(file) })
    }
}

/// The block that `row` lists, checked, and its file as the store has it.
///
/// # Errors
/// A store that fails; a file that is not this block's.
pub async fn block(store: &dyn Fetch, row: &BlockRow) -> Result<(Block, Bytes), ReadError> {
    checked_block(store, row, Confirm::Wrong).await
}

async fn checked_block(store: &dyn Fetch, row: &BlockRow, confirm: Confirm) -> Result<(Block, Bytes), ReadError> {
    let path = RepoPath::block(&row.id);
    let max_bytes = zlib_max_bytes(row.bytes);
    let row = *row;
    let max_bytes = max_bytes + max_bytes / WRAPPER_PART;
    let checked = get_checked(store, &path, max_bytes, confirm, |file| async move {
        bridge::blocking(move || open_block(&row, file)).await.map_err(|e| e.to_string())
    });
    checked.await
}

/// The file of the block that `row` lists, from the first store that has it right, and which one that is. The `first`
/// of them is asked first.
///
/// # Errors
/// No store that has.
pub async fn block_from(
    stores: &[Arc<dyn Fetch>],
    first: usize,
    row: &BlockRow,
    freshness: Freshness,
) -> Result<(usize, Bytes), ReadError> {
    let first = first.min(stores.len());
    let confirm = if freshness == Freshness::Confirmed { Confirm::Always } else { Confirm::Wrong };
    let ask = |at: usize| {
        let (store, row) = (Arc::clone(&stores[at]), *row);
        async move { Ok((at, checked_block(&*store, &row, confirm).await?.1)) }
    };
    open::first_of((first..stores.len()).chain(0..first).map(ask), BLOCK_WAIT).await
}

/// Checks a block's file, first as it was received, then without what the server may have wrapped around it.
fn open_block(row: &BlockRow, file: Bytes) -> Result<(Block, Bytes), BadBlock> {
    match (Block::open(row, &file), unwrapped(&file, zlib_max_bytes(row.bytes))) {
        (Ok(block), _) => Ok((block, file)),
        (Err(_), Some(plain)) => Ok((Block::open(row, &plain)?, plain.into())),
        (Err(bad), None) => Err(bad),
    }
}
