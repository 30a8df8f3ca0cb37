//! The highest version number that the indexes on a mirror bear witness to: a number is never used twice, even where the
//! head that named it was lost.
//!
//! A name in a listing decides nothing. It counts only where the index behind it was signed for this image and number; in a
//! repository without signatures, where it is at least such an index.

use std::collections::BTreeMap;

use super::trust::Accepted;
use crate::digest::Sha256;
use crate::head::{Head, Trust};
use crate::index::Index;
use crate::keys::{SIGNATURE_MAX_BYTES, Signature};
use crate::layout::RepoPath;
use crate::name::{Name, Version};
use crate::store::Fetch;

/// Names that are looked into on one mirror, highest first. More of them lose nothing: a mirror that shows many that are
/// wrong could as well have shown none.
const LOOKS_MAX: usize = 8;
/// The largest index that is read for its number, in bytes.
const INDEX_MAX_BYTES: u64 = 64 << 20;

/// A number that an index proves, and the digest of that index.
pub type Witness = (Version, Sha256);

/// The highest number among the indexes that a mirror lists, if any of them proves one: later than the newest version of
/// `head`, or another version of the same number.
pub async fn highest(
    store: &dyn Fetch,
    image: &Name,
    listed: &BTreeMap<RepoPath, Version>,
    head: Option<&Head>,
    accepted: &Accepted,
) -> Option<Witness> {
    let newest = head.map(Head::newest);
    let mut candidates: Vec<(&RepoPath, Version)> = listed.iter().map(|(path, version)| (path, *version)).collect();
    candidates.retain(|(path, version)| {
        newest.is_none_or(|newest| *version >= newest.version && **path != newest.index_path(image))
    });
    candidates.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    for (path, version) in candidates.into_iter().take(LOOKS_MAX) {
        if let Some(digest) = proves(store, image, path, version, accepted).await {
            return Some((version, digest));
        }
    }
    None
}

/// The digest of the index at `path`, where it is that of this image and version, made by the one who is trusted.
async fn proves(
    store: &dyn Fetch,
    image: &Name,
    path: &RepoPath,
    version: Version,
    accepted: &Accepted,
) -> Option<Sha256> {
    let signature = match accepted.any.contains(&Trust::Anyone) {
        true => None,
        false => Some(read_signature(store, path).await?),
    };
    let file = store.get(path, INDEX_MAX_BYTES).await.ok()?;
    let digest = Sha256::of(&file);
    if RepoPath::index(image, version, &digest) != *path {
        return None;
    }
    let Some(signature) = signature else {
        let index = Index::parse(&file).ok()?;
        return (index.header().image == *image && index.header().version == version).then_some(digest);
    };
    let comment = crate::index::trusted_comment(image, version, &digest);
    let signed = |trust: &Trust| matches!(trust, Trust::Key(key) if key.verify(&file, &signature, &comment).is_ok());
    (accepted.any.iter().any(signed) && signature.trusted_comment() == comment).then_some(digest)
}

async fn read_signature(store: &dyn Fetch, path: &RepoPath) -> Option<Signature> {
    let text = store.get(&path.signature(), SIGNATURE_MAX_BYTES as u64).await.ok()?;
    std::str::from_utf8(&text).ok()?.parse().ok()
}
