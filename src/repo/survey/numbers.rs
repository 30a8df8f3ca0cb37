//! The highest version number that the indexes on a mirror prove: a number is never reused, even if the head that named
//! it was lost.
//!
//! A name in a listing proves nothing. It counts only if the index is signed for this image and number; in an unsigned
//! repository, if it is at least such an index.

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
/// Larger indexes are read for their number one at a time, across all mirrors.
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

/// The digest of the index at `path`, if it belongs to this image and version and an accepted key signed it where
/// needed.
async fn proves(
    store: &dyn Fetch,
    image: &Name,
    path: &RepoPath,
    version: Version,
    accepted: &Accepted,
) -> Result<Option<Sha256>, StoreError> {
    let mut signature = None;
    if !accepted.any.contains(&Trust::Anyone) {
        signature = read_signature(store, path).await?;
        if signature.is_none() {
            return Ok(None);
        }
    }
    let digest = |file: Bytes| digest_of(&file, signature.as_ref(), image, path, version, accepted);
    match store.get(path, LARGE_BYTES).await {
        Err(e) if e.kind() == StoreErrorKind::TooLong => {
            let _turn = LARGE.acquire().await;
            Ok(there(store.get(path, FILE_MAX_BYTES).await)?.and_then(digest))
        }
        file => Ok(there(file)?.and_then(digest)),
    }
}

/// The digest of an index file, if it belongs to this image and version and is signed for them where needed.
fn digest_of(
    file: &[u8],
    signature: Option<&Signature>,
    image: &Name,
    path: &RepoPath,
    version: Version,
    accepted: &Accepted,
) -> Option<Sha256> {
    let digest = Sha256::of(file);
    if RepoPath::index(image, version, &digest) != *path {
        return None;
    }
    let Some(signature) = signature else {
        let index = Index::parse(file).ok()?;
        return (index.header().image == *image && index.header().version == version).then_some(digest);
    };
    let comment = comment::index(image, version, &digest);
    let signed = |trust: &Trust| matches!(trust, Trust::Key(key) if key.verify(file, signature, &comment).is_ok());
    (accepted.any.iter().any(signed) && signature.trusted_comment() == comment).then_some(digest)
}

async fn read_signature(store: &dyn Fetch, path: &RepoPath) -> Result<Option<Signature>, StoreError> {
    let text = there(store.get(&path.signature(), SIGNATURE_MAX_BYTES as u64).await)?;
    Ok(text.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok()))
}

/// The bytes read; `None` if the object is missing or longer than allowed.
fn there(read: Result<Bytes, StoreError>) -> Result<Option<Bytes>, StoreError> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if matches!(e.kind(), StoreErrorKind::NotFound | StoreErrorKind::TooLong) => Ok(None),
        Err(e) => Err(e),
    }
}
