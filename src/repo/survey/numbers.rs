//! The highest version number that the indexes on a mirror prove: a number is never reused, even if the head that named
//! it was lost.
//!
//! A name in a listing proves nothing. It counts only if there is a signature of an index of this image and number; in an
//! unsigned repository, if it is at least such an index.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::trust::Accepted;
use crate::format::comment;
use crate::format::digest::Sha256;
use crate::format::head::{Head, Trust};
use crate::format::index::{FILE_MAX_BYTES, Index};
use crate::format::layout::RepoPath;
use crate::format::name::{Name, Version};
use crate::format::signature::{SIGNATURE_MAX_BYTES, Signature};
use crate::store::{Fetch, StoreError, StoreErrorKind};

/// Indexes checked per mirror, highest number first. The limit loses nothing: a mirror that lists many wrong ones could
/// as well have listed none.
const LOOKS_MAX: usize = 8;
/// Larger unsigned indexes are read for their number one at a time, across all mirrors.
const LARGE_BYTES: u64 = 64 << 20;
static LARGE: Semaphore = Semaphore::const_new(1);

/// A version number proven by an index, and the digest of that index.
pub type Witness = (Version, Sha256);

/// The highest number proven by an index that a mirror lists: later than the newest version of `head`, or a different
/// version with the same number. Without a listing, nothing is proven.
///
/// # Errors
/// An index or signature that exists but cannot be read: it may be such a proof.
pub async fn highest(
    store: &dyn Fetch,
    image: &Name,
    listed: Option<&BTreeMap<RepoPath, Version>>,
    head: Option<&Head>,
    accepted: &Accepted,
) -> Result<Option<Witness>, StoreError> {
    let newest = head.map(Head::newest);
    let mut candidates: Vec<(&RepoPath, Version)> =
        listed.into_iter().flatten().map(|(path, version)| (path, *version)).collect();
    candidates.retain(|(path, version)| {
        newest.is_none_or(|newest| *version >= newest.version && **path != newest.index_path(image))
    });
    candidates.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    for (path, version) in candidates.into_iter().take(LOOKS_MAX) {
        if let Some(digest) = proves(store, image, path, version, accepted).await? {
            return Ok(Some((version, digest)));
        }
    }
    Ok(None)
}

/// The digest of the index at `path`, if an accepted key signed it for this image and version. The signature is proof
/// enough: the index itself may be damaged or lost. In an unsigned repository the index is read.
async fn proves(
    store: &dyn Fetch,
    image: &Name,
    path: &RepoPath,
    version: Version,
    accepted: &Accepted,
) -> Result<Option<Sha256>, StoreError> {
    if accepted.any.contains(&Trust::Anyone) {
        return unsigned(store, image, path, version).await;
    }
    let Some(signature) = read_signature(store, path).await? else { return Ok(None) };
    let digest = signature.trusted_comment().rsplit(' ').next().and_then(|digits| digits.parse().ok());
    let is_its_own = |digest: &Sha256| {
        signature.trusted_comment() == comment::index(image, version, digest)
            && RepoPath::index(image, version, digest) == *path
    };
    let made = |trust: &Trust| trust.key().is_some_and(|key| key.made_comment(&signature));
    Ok(digest.filter(is_its_own).filter(|_| accepted.any.iter().any(made)))
}

/// The digest of an unsigned index, if it belongs to this image and version.
async fn unsigned(
    store: &dyn Fetch,
    image: &Name,
    path: &RepoPath,
    version: Version,
) -> Result<Option<Sha256>, StoreError> {
    let file = match store.get(path, LARGE_BYTES).await {
        Err(e) if e.kind() == StoreErrorKind::TooLong => {
            let _turn = LARGE.acquire().await;
            store.get(path, FILE_MAX_BYTES).await
        }
        file => file,
    };
    let Some(file) = there(file)? else { return Ok(None) };
    let digest = Sha256::of(&file);
    let index = Index::parse(&file).ok().filter(|_| RepoPath::index(image, version, &digest) == *path);
    let is_its_own = |index: Index| index.header().image == *image && index.header().version == version;
    Ok(index.is_some_and(is_its_own).then_some(digest))
}

async fn read_signature(store: &dyn Fetch, path: &RepoPath) -> Result<Option<Signature>, StoreError> {
    let text = there(store.get(&path.signature(), SIGNATURE_MAX_BYTES as u64).await)?;
    Ok(text.and_then(|text| Signature::of_file(&text)))
}

/// The bytes read; `None` if the object is missing or longer than allowed.
fn there(read: Result<Bytes, StoreError>) -> Result<Option<Bytes>, StoreError> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if matches!(e.kind(), StoreErrorKind::NotFound | StoreErrorKind::TooLong) => Ok(None),
        Err(e) => Err(e),
    }
}
