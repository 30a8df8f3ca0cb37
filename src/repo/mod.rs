//! Verified objects from a store: the head of an image, the index of a version, a block.
//!
//! Nothing leaves this module unverified: the head is checked against the key, the index against the head, the block
//! against the index.

mod base_blocks;
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

use crate::format::block::BlockRow;
use crate::format::block::{BadBlock, Block, unwrapped, zlib_max_bytes};
use crate::format::digest::{BlockId, Sha256};
use crate::format::head::{HEAD_MAX_BYTES, Head, SignedHead, Trust, VersionRow};
use crate::format::index::Index;
use crate::format::layout::RepoPath;
use crate::format::name::Name;
use crate::format::text::FormatError;
use crate::format::update::DeltaRow;
use crate::store::{Fetch, Freshness, StoreErrorKind};
use crate::system::bridge;

pub use base_blocks::BaseBlocks;
pub use error::{ReadError, ReadErrorKind};
pub use file::{file, file_from};
pub use key::{GivenKeyError, given_key};
pub use open::{AcceptedHead, Opened, open, open_head};
pub use options::{OpenOptions, Warning};
#[cfg(feature = "publish")]
pub(crate) use staggered::Staggered;
pub use state::{StateDirectory, StateError};

/// Maximum number of blocks recorded as missing on one mirror; beyond it, all are forgotten.
const MISSING_MAX: usize = 4096;
/// Time until a hedged request for a block goes to another store.
const BLOCK_WAIT: Duration = Duration::from_secs(1);
/// Wrapping added by a server makes a file longer by at most this part (1/16) and so many bytes.
const WRAPPER_PART: u64 = 16;
const WRAPPER_BYTES: u64 = 64;

/// A verified head and the bytes it was read from.
#[derive(Debug, Clone)]
pub struct FoundHead {
    /// Parsed head.
    pub head: Head,
    /// Head file.
    pub file: Bytes,
    /// Whether it is signed.
    pub signed: bool,
}

/// The head of `image`, if the store has one.
///
/// # Errors
/// A store that fails; a head that is malformed, belongs to another image, or does not verify.
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

/// Parses a head without verifying it; also returns its file without wrapping added by a server.
pub fn parse_head(file: Bytes) -> (Bytes, Result<SignedHead, FormatError>) {
    match (SignedHead::parse(&file), unwrapped(&file, HEAD_MAX_BYTES)) {
        (Err(_), Some(plain)) => {
            let sealed = SignedHead::parse(&plain);
            (plain.into(), sealed)
        }
        (sealed, _) => (file, sealed),
    }
}

/// The index of one version, exactly as the head names it.
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

/// When caches on the way are bypassed to fetch an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confirm {
    /// On a retry after a wrong or incomplete answer.
    Wrong,
    /// Also after an answer that there is no such object.
    WrongOrMissing,
    /// On the first request.
    Always,
}

/// Fetches an object that passes its check. One that does not is fetched once more with caches on the way bypassed: a
/// cache may have damaged it, and would serve it forever.
///
/// A cache may also keep an outdated answer that the object does not exist. A signed object vouches for what is
/// requested here, so it should exist. But lagging mirrors lack many blocks; they are not asked twice for each, see
/// [`Mirror`].
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
        // If the bytes are wrong again, that is reported; if the retry fails otherwise, the first error is.
        Err(e) if e.kind() != ReadErrorKind::Unverified => Err(first),
        answer => answer,
    }
}

/// Source of blocks: a mirror, several, or a cache in front of them.
#[async_trait]
pub trait BlockSource: Send + Sync + fmt::Debug {
    /// Fetches and checks the block that `row` lists. Returns its file if it came over a network, for the disk cache.
    ///
    /// # Errors
    /// Why the block could not be fetched.
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError>;

    /// Fetches the block alone.
    ///
    /// # Errors
    /// Those of [`BlockSource::fetch`].
    async fn block(&self, row: &BlockRow) -> Result<Arc<Block>, ReadError> {
        Ok(self.fetch(row).await?.block)
    }
}

/// A checked block and the file it was opened from.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Decoded block.
    pub block: Arc<Block>,
    /// Compressed file; `None` if it did not come over a network.
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
/// A block that is not there is requested once: it is most likely missing, and other mirrors have it. A second request
/// means that no other mirror has it, so caches on the way are bypassed.
#[derive(Debug)]
pub struct Mirror {
    store: Arc<dyn Fetch>,
    is_only: bool,
    missing: Mutex<HashSet<BlockId>>,
}

impl Mirror {
    /// One of several mirrors.
    pub fn new(store: Arc<dyn Fetch>) -> Self {
        Self { store, is_only: false, missing: Mutex::default() }
    }

    /// The only mirror: no other can have a missing block, so it is asked again at once.
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
/// A store that fails; a file that is not this block.
pub async fn block(store: &dyn Fetch, row: &BlockRow) -> Result<(Block, Bytes), ReadError> {
    checked_block(store, row, Confirm::Wrong).await
}

/// The maximum size of a file of at most `max_bytes` as a server may send it.
fn wrapped_max_bytes(max_bytes: u64) -> u64 {
    max_bytes + max_bytes / WRAPPER_PART + WRAPPER_BYTES
}

async fn checked_block(store: &dyn Fetch, row: &BlockRow, confirm: Confirm) -> Result<(Block, Bytes), ReadError> {
    let path = RepoPath::block(&row.id);
    let max_bytes = wrapped_max_bytes(zlib_max_bytes(row.bytes));
    let row = *row;
    let checked = get_checked(store, &path, max_bytes, confirm, |file| async move {
        bridge::blocking(move || open_block(&row, file)).await.map_err(|e| e.to_string())
    });
    checked.await
}

/// The block that `row` lists, made from a delta, and the file of this; `prefix` has the bytes of the delta's bases.
///
/// # Errors
/// A store that fails; a file that does not make this block.
pub async fn delta_block(
    store: &dyn Fetch,
    row: &BlockRow,
    delta: &DeltaRow,
    prefix: Arc<[u8]>,
) -> Result<Fetched, ReadError> {
    let (row, path, max_bytes) = (*row, RepoPath::delta(&delta.sha256), u64::from(delta.bytes));
    let checked = get_checked(store, &path, wrapped_max_bytes(max_bytes), Confirm::Wrong, |file| {
        let (prefix, delta) = (Arc::clone(&prefix), file.clone());
        let open = move || match (Block::open_delta(&row, &prefix, &file), unwrapped(&file, max_bytes)) {
            (Err(_), Some(plain)) => Block::open_delta(&row, &prefix, &plain),
            (opened, _) => opened,
        };
        async move {
            let block = bridge::blocking(open).await.map_err(|e| e.to_string())?;
            Ok(Fetched { block: Arc::new(block), file: Some(delta) })
        }
    });
    checked.await
}

/// The file of the block that `row` lists, from the first store that has it intact, and the number of that store. Store
/// `first` is asked first.
///
/// # Errors
/// No store has it intact.
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

/// Checks a block's file as received, then without wrapping added by the server.
fn open_block(row: &BlockRow, file: Bytes) -> Result<(Block, Bytes), BadBlock> {
    match (Block::open(row, &file), unwrapped(&file, zlib_max_bytes(row.bytes))) {
        (Ok(block), _) => Ok((block, file)),
        (Err(_), Some(plain)) => Ok((Block::open(row, &plain)?, plain.into())),
        (Err(bad), None) => Err(bad),
    }
}
