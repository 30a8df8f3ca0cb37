//! The head of an image on one mirror, and whether it verifies.

use std::sync::Arc;

use bytes::Bytes;

use super::flaw::{Flaw, ProblemKind};
use super::trust::Accepted;
use crate::format::head::{HEAD_MAX_BYTES, Head, VersionRow};
use crate::format::layout::RepoPath;
use crate::format::name::{Name, Version};
use crate::format::signature::PublicKey;
use crate::format::time::Timestamp;
use crate::repo;
use crate::store::{Fetch, StoreError, StoreErrorKind};

/// A head signed by an accepted key, or one that needs no signature.
#[derive(Debug)]
pub struct VerifiedHead {
    /// Parsed head.
    pub head: Head,
    /// Head file.
    pub file: Bytes,
    /// Whether it is signed.
    pub signed: bool,
    /// The key that signed it, if one was required.
    pub key: Option<PublicKey>,
}

/// State of an image's head on one mirror.
#[derive(Debug, Clone)]
pub enum HeadState {
    /// No head, as the store reports with certainty.
    Absent,
    /// A head that verifies.
    Verified(Arc<VerifiedHead>),
    /// Not a valid head, with its bytes if they could be read.
    Damaged(Flaw, Option<Bytes>),
    /// A well-formed head that no accepted key signed.
    Foreign(Arc<Head>, Flaw, Bytes),
    /// The head could not be read; this does not mean that it is absent.
    Unreadable(StoreError),
}

impl HeadState {
    /// The verified head.
    pub fn verified(&self) -> Option<&Arc<VerifiedHead>> {
        match self {
            Self::Verified(head) => Some(head),
            _ => None,
        }
    }
}

/// Reads the head of `image`.
pub async fn read(store: &dyn Fetch, image: &Name, accepted: &Accepted) -> HeadState {
    judge(fetch(store, image).await, image, accepted)
}

/// Fetches the head file of `image`.
pub(super) async fn fetch(store: &dyn Fetch, image: &Name) -> Result<Bytes, StoreError> {
    store.get(&RepoPath::head(image), HEAD_MAX_BYTES).await
}

/// Judges the answer to a request for a head.
pub(super) fn judge(answer: Result<Bytes, StoreError>, image: &Name, accepted: &Accepted) -> HeadState {
    match answer {
        Ok(file) => judge_file(file, image, accepted),
        Err(e) if e.kind() == StoreErrorKind::NotFound => HeadState::Absent,
        Err(e) if e.kind() == StoreErrorKind::TooLong => {
            HeadState::Damaged(wrong(format!("too long: {}", e.why())), None)
        }
        Err(e) => HeadState::Unreadable(e),
    }
}

fn judge_file(file: Bytes, image: &Name, accepted: &Accepted) -> HeadState {
    let (file, sealed) = repo::parse_head(file);
    let sealed = match sealed {
        Ok(sealed) => sealed,
        Err(_) if file.is_empty() => {
            return HeadState::Damaged(Flaw::new(ProblemKind::Truncated, "empty"), Some(file));
        }
        Err(e) => return HeadState::Damaged(wrong(e.to_string()), Some(file)),
    };
    let head = sealed.unverified();
    if head.image != *image {
        return HeadState::Damaged(wrong(format!("this is the head of image {}", head.image)), Some(file));
    }
    let head = head.clone();
    match sealed.verify_any(&accepted.any) {
        Ok(trust) => {
            let key = trust.key().cloned();
            HeadState::Verified(Arc::new(VerifiedHead { head, file, signed: sealed.is_signed(), key }))
        }
        Err(e) => HeadState::Foreign(Arc::new(head), wrong(e.to_string()), file),
    }
}

fn wrong(why: String) -> Flaw {
    Flaw::new(ProblemKind::Wrong, why)
}

/// The newest of several heads of one image.
pub fn newest<'a>(heads: impl Iterator<Item = &'a Arc<VerifiedHead>>) -> Option<&'a Arc<VerifiedHead>> {
    heads.max_by_key(|found| age(&found.head))
}

/// Sort key by which a head is newer than another.
pub fn age(head: &Head) -> (Version, Timestamp) {
    (head.newest().version, head.created)
}

/// Reports what `head` lacks that `newest` has.
pub fn behind(head: &Head, newest: &Head) -> Option<Flaw> {
    if age(head) >= age(newest) {
        return None;
    }
    let lacking: Vec<String> = newest
        .versions
        .iter()
        .filter(|row| head.version(row.version).is_none())
        .take(8)
        .map(|row| row.version.to_string())
        .collect();
    let what = match &lacking[..] {
        [] => format!("an older head, made {}; the newest was made {}", head.created, newest.created),
        [one] => format!("lacks version {one}"),
        _ => format!("lacks versions {}", lacking.join(", ")),
    };
    Some(Flaw::new(ProblemKind::Behind, format!("{what}; run hfl sync")))
}

/// Reports a version that the two heads list with different indexes.
pub fn conflict(head: &Head, newest: &Head) -> Option<Flaw> {
    let differs =
        |row: &&VersionRow| newest.version(row.version).is_some_and(|other| other.index_sha256 != row.index_sha256);
    let row = head.versions.iter().find(differs)?;
    let what = format!("its version {} is another one than on the other mirrors: two histories", row.version);
    Some(Flaw::new(ProblemKind::Wrong, what))
}
