//! The heads of all images on all mirrors: which are believed, which is the newest.

use std::sync::Arc;

use bytes::Bytes;

use super::believe::Trusts;
use super::ledger::Flaw;
use super::problem::ProblemKind;
use crate::head::{HEAD_MAX_BYTES, Head, SealedHead, Trust};
use crate::keys::PublicKey;
use crate::layout::RepoPath;
use crate::name::Name;
use crate::publish::error::Error;
use crate::store::{Fetch, StoreErrorKind};

/// A head that is believed.
#[derive(Debug)]
pub struct Believed {
    /// What it says.
    pub head: Head,
    /// Its file.
    pub file: Bytes,
    /// Whether it is signed.
    pub signed: bool,
    /// The key that vouches for it, if one was asked for.
    pub key: Option<PublicKey>,
}

/// What one mirror has as the head of one image.
#[derive(Debug)]
pub enum State {
    /// Nothing.
    Absent,
    /// A head that is believed.
    Good(Arc<Believed>),
    /// Something that is none, and its bytes where they could be read.
    Bad(Flaw, Option<Bytes>),
    /// A well-formed head that none of the keys fits.
    Foreign(Head, Flaw, Bytes),
}

impl State {
    /// The believed head.
    pub fn good(&self) -> Option<&Arc<Believed>> {
        match self {
            Self::Good(believed) => Some(believed),
            _ => None,
        }
    }
}

/// Reads the head of `image`.
///
/// # Errors
/// A store that cannot be reached.
pub async fn read(store: &dyn Fetch, image: &Name, trusts: &Trusts) -> Result<State, Error> {
    match store.get(&RepoPath::head(image), HEAD_MAX_BYTES).await {
        Ok(file) => Ok(judge(file, image, trusts)),
        Err(e) if e.kind() == StoreErrorKind::NotFound => Ok(State::Absent),
        Err(e) => Ok(State::Bad(Flaw::of(e)?, None)),
    }
}

/// What the bytes of a head are worth.
pub fn judge(file: Bytes, image: &Name, trusts: &Trusts) -> State {
    let wrong = |why: String| Flaw::new(ProblemKind::Wrong, why);
    let sealed = match SealedHead::parse(&file) {
        Ok(sealed) => sealed,
        Err(_) if file.is_empty() => return State::Bad(Flaw::new(ProblemKind::Truncated, "empty"), Some(file)),
        Err(e) => return State::Bad(wrong(e.to_string()), Some(file)),
    };
    let mut why = String::from("no key is known for it");
    for trust in &trusts.any {
        match sealed.clone().verify(trust) {
            Ok(head) if head.image != *image => {
                return State::Bad(wrong(format!("this is the head of image {}", head.image)), Some(file));
            }
            Ok(head) => return good(head, file, sealed.is_signed(), trust),
            Err(e) => why = e.to_string(),
        }
    }
    match sealed.verify(&Trust::Anyone) {
        Ok(head) => State::Foreign(head, wrong(why), file),
        Err(e) => State::Bad(wrong(e.to_string()), Some(file)),
    }
}

fn good(head: Head, file: Bytes, signed: bool, trust: &Trust) -> State {
    let key = match trust {
        Trust::Key(key) => Some(key.clone()),
        Trust::Anyone => None,
    };
    State::Good(Arc::new(Believed { head, file, signed, key }))
}

/// Of heads of one image, the one that was made last.
pub fn newest<'a>(heads: impl Iterator<Item = &'a Arc<Believed>>) -> Option<&'a Arc<Believed>> {
    heads.max_by_key(|believed| age(&believed.head))
}

/// What decides which of two heads is the newer one.
pub fn age(head: &Head) -> (crate::name::Version, crate::time::Timestamp) {
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
    let differs = |row: &&crate::head::VersionRow| {
        newest.version(row.version).is_some_and(|other| other.index_sha256 != row.index_sha256)
    };
    let row = head.versions.iter().find(differs)?;
    let what = format!("its version {} is another one than on the other mirrors: two histories", row.version);
    Some(Flaw::new(ProblemKind::Wrong, what))
}
