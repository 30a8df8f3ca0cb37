//! What a mirror has as the head of an image, and what that is worth.

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

/// A head that an accepted key signed, or that needs none.
#[derive(Debug)]
pub struct VerifiedHead {
    /// What it says.
    pub head: Head,
    /// Its file.
    pub file: Bytes,
    /// Whether it is signed.
    pub signed: bool,
    /// The key that signed it, if one was asked for.
    pub key: Option<PublicKey>,
}

/// What one mirror has as the head of one image.
#[derive(Debug, Clone)]
pub enum HeadState {
    /// Nothing, and the store is sure of that.
    Absent,
    /// A head that verifies.
    Verified(Arc<VerifiedHead>),
    /// Something that is none, with its bytes where they could be read.
    Damaged(Flaw, Option<Bytes>),
    /// A well-formed head that none of the accepted keys signed.
    Foreign(Arc<Head>, Flaw, Bytes),
    /// The mirror did not say what it has: that is no absence.
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

/// The bytes of the head of `image`.
pub(super) async fn fetch(store: &dyn Fetch, image: &Name) -> Result<Bytes, StoreError> {
    store.get(&RepoPath::head(image), HEAD_MAX_BYTES).await
}

/// What an answer to the question for a head is worth.
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

/// Of heads of one image, the one that was made last.
pub fn newest<'a>(heads: impl Iterator<Item = &'a Arc<VerifiedHead>>) -> Option<&'a Arc<VerifiedHead>> {
    heads.max_by_key(|found| age(&found.head))
}

/// What decides which of two heads is the newer one.
pub fn age(head: &Head) -> (Version, Timestamp) {
    (head.newest().version, head.created)
}

/// What `head` lacks that `newest` has.
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

/// A version that the two heads know under different indexes.
pub fn conflict(head: &Head, newest: &Head) -> Option<Flaw> {
    let differs =
        |row: &&VersionRow| newest.version(row.version).is_some_and(|other| other.index_sha256 != row.index_sha256);
    let row = head.versions.iter().find(differs)?;
    let what = format!("its version {} is another one than on the other mirrors: two histories", row.version);
    Some(Flaw::new(ProblemKind::Wrong, what))
}
