//! Writing whole objects, on conditions that the store checks.
//!
//! A store verifies uploads against the MD5 sent along, and usually returns that MD5 as ETag. If the ETag differs, the
//! object's size is queried instead.

use std::sync::atomic::Ordering;

use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_types::base64;
use bytes::Bytes;
use md5::{Digest as _, Md5};

use super::cap::{Cap, SMALL};
use super::{Inner, headers};
use crate::format::layout::RepoPath;
use crate::store::arrival::all_arrived;
use crate::store::{Put, StoreError, StoreErrorKind, Swap};

/// Precondition of a write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition<'a> {
    None,
    /// The object does not exist yet.
    New,
    /// The object still has this ETag.
    Same(&'a str),
}

/// Outcome of a write.
enum Written {
    Done,
    /// The condition does not hold.
    Refused,
    /// The store does not implement conditional writes.
    Unable,
}

impl Inner {
    /// Sends an object with its digest, so that the store rejects it if it was damaged in transit.
    async fn put(&self, path: &RepoPath, bytes: Bytes, condition: Condition<'_>) -> Result<Written, StoreError> {
        let length = bytes.len() as u64;
        let digest = Md5::digest(&bytes);
        let request = self.client.put_object().bucket(&self.bucket).key(self.key(path));
        let request = request
            .content_md5(base64::encode(digest))
            .content_type(headers::content_type(path))
            .cache_control(self.headers.cache_control(path))
            .set_storage_class(self.headers.storage_class(path).map(Into::into))
            .body(ByteStream::from(bytes));
        let request = match condition {
            Condition::None => request,
            Condition::New => request.if_none_match("*"),
            Condition::Same(tag) => request.if_match(tag),
        };
        let failure = match self.answer(length, request.customize().interceptor(Cap(SMALL)).send()).await {
            Ok(answer) => {
                let tag = answer.e_tag.unwrap_or_default();
                let same = tag.trim_matches('"').eq_ignore_ascii_case(&hex(&digest));
                if !same {
                    self.look_at(path, length, condition).await?;
                }
                return Ok(Written::Done);
            }
            Err(failure) => failure,
        };
        let gone = failure.kind == StoreErrorKind::NotFound && matches!(condition, Condition::Same(_));
        match failure.status {
            412 => Ok(Written::Refused),
            501 if condition != Condition::None => Ok(Written::Unable),
            _ if gone => Ok(Written::Refused),
            _ => Err(failure.at(&self.location, path)),
        }
    }

    /// Verifies by its size that an object arrived whole, if the ETag is not its MD5 (as for encrypted objects). A new
    /// object that is incomplete is deleted, so that it does not pass for a complete one.
    async fn look_at(&self, path: &RepoPath, bytes: u64, condition: Condition<'_>) -> Result<(), StoreError> {
        let there = self.size(path).await?.unwrap_or(0);
        let Err(why) = all_arrived(there, bytes) else { return Ok(()) };
        if condition == Condition::New {
            self.delete(path).await?;
        }
        Err(StoreError::at(&self.location, path, StoreErrorKind::Unreachable, why))
    }

    pub(super) async fn put_new(&self, path: &RepoPath, bytes: Bytes) -> Result<Put, StoreError> {
        if !self.unconditional.load(Ordering::Relaxed) {
            match self.put(path, bytes.clone(), Condition::New).await? {
                Written::Done => return Ok(Put::Created),
                Written::Refused => return Ok(Put::Exists),
                Written::Unable => self.unconditional.store(true, Ordering::Relaxed),
            }
        }
        if self.size(path).await?.is_some() {
            return Ok(Put::Exists);
        }
        let length = bytes.len() as u64;
        match self.put_replace(path, bytes).await {
            Err(error) => {
                // The next attempt must not take a partial object for the whole.
                if self.size(path).await?.is_some_and(|there| there != length) {
                    self.delete(path).await?;
                }
                Err(error)
            }
            Ok(()) => Ok(Put::Created),
        }
    }

    pub(super) async fn put_replace(&self, path: &RepoPath, bytes: Bytes) -> Result<(), StoreError> {
        match self.put(path, bytes, Condition::None).await? {
            Written::Done => Ok(()),
            Written::Refused | Written::Unable => Err(StoreError::at(
                &self.location,
                path,
                StoreErrorKind::Protocol,
                "refused a condition that nobody made",
            )),
        }
    }

    pub(super) async fn swap(&self, path: &RepoPath, old: Option<&[u8]>, new: Bytes) -> Result<Swap, StoreError> {
        // A longer object differs from the old bytes and need not be read.
        let found = match self.get(path, old.map_or(0, |old| old.len() as u64)).await {
            Ok((bytes, tag)) => Some((bytes, tag)),
            Err(e) if e.kind() == StoreErrorKind::NotFound => None,
            Err(e) if e.kind() == StoreErrorKind::TooLong => return Ok(Swap::Changed),
            Err(e) => return Err(e),
        };
        if found.as_ref().map(|(bytes, _)| &bytes[..]) != old {
            return Ok(Swap::Changed);
        }
        let condition = match &found {
            None => Condition::New,
            Some((_, Some(tag))) => Condition::Same(tag),
            Some((_, None)) => Condition::None,
        };
        match self.put(path, new.clone(), condition).await? {
            Written::Done => Ok(Swap::Done),
            Written::Refused => Ok(Swap::Changed),
            Written::Unable => self.put_replace(path, new).await.map(|()| Swap::Done),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
