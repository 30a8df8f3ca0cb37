//! Reading and deleting objects, with bounded responses.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};

use super::Inner;
use super::cap::{Cap, SMALL};
use super::error::{Failure, is_too_long, unread};
use crate::format::layout::RepoPath;
use crate::store::{StoreError, StoreErrorKind};

/// The longest silence within a response.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

impl Inner {
    /// Returns an object and its ETag.
    pub(super) async fn get(&self, path: &RepoPath, max_bytes: u64) -> Result<(Bytes, Option<String>), StoreError> {
        let too_long = || Failure::new(StoreErrorKind::TooLong, format!("more than {max_bytes} bytes"));
        let request = self.client.get_object().bucket(&self.bucket).key(self.key(path)).customize();
        // One byte more than `max_bytes`, to detect longer objects here.
        let request = request.interceptor(Cap(max_bytes.saturating_add(1).max(SMALL))).send();
        let answer = async {
            let answer = self.answer(0, request).await.map_err(by_the_store)?;
            let announced = answer.content_length.and_then(|length| u64::try_from(length).ok());
            if announced.is_some_and(|length| length > max_bytes) {
                return Err(too_long());
            }
            let body = self.body(answer.body, announced, max_bytes).await?.ok_or_else(too_long)?;
            Ok((body, answer.e_tag))
        };
        answer.await.map_err(|failure| failure.at(&self.location, path))
    }

    /// Reads a whole body; `None` if it is longer than `max_bytes`.
    async fn body(
        &self,
        mut stream: ByteStream,
        announced: Option<u64>,
        max_bytes: u64,
    ) -> Result<Option<Bytes>, Failure> {
        let under_way = self.traffic.begin(announced.unwrap_or(max_bytes));
        let late = |_| Failure::new(StoreErrorKind::Unreachable, "timed out");
        let read = async {
            let mut body = BytesMut::new();
            while let Some(chunk) = tokio::time::timeout(STALL_TIMEOUT, stream.next()).await.map_err(late)? {
                let chunk = match chunk {
                    Ok(chunk) => chunk,
                    Err(e) if is_too_long(&e) => return Ok(None),
                    Err(e) => return Err(unread(&e)),
                };
                if (body.len() + chunk.len()) as u64 > max_bytes {
                    return Ok(None);
                }
                // Announcing a length costs a server nothing: it is trusted only once data arrives.
                if body.is_empty() {
                    body.reserve(announced.unwrap_or(0) as usize);
                }
                body.extend_from_slice(&chunk);
            }
            match announced {
                Some(length) if length != body.len() as u64 => {
                    Err(Failure::new(StoreErrorKind::Unreachable, "the answer ended early"))
                }
                _ => Ok(Some(body.freeze())),
            }
        };
        tokio::time::timeout(under_way.deadline, read).await.map_err(late)?
    }

    pub(super) async fn size(&self, path: &RepoPath) -> Result<Option<u64>, StoreError> {
        let request = self.client.head_object().bucket(&self.bucket).key(self.key(path)).customize();
        match self.answer(0, request.interceptor(Cap(SMALL)).send()).await {
            Ok(head) => match head.content_length.and_then(|length| length.try_into().ok()) {
                Some(bytes) => Ok(Some(bytes)),
                None => Err(StoreError::at(&self.location, path, StoreErrorKind::Protocol, "the store tells no size")),
            },
            Err(failure) if failure.kind == StoreErrorKind::NotFound => Ok(None),
            Err(failure) => Err(failure.at(&self.location, path)),
        }
    }

    pub(super) async fn delete(&self, path: &RepoPath) -> Result<(), StoreError> {
        let request = self.client.delete_object().bucket(&self.bucket).key(self.key(path)).customize();
        match self.answer(0, request.interceptor(Cap(SMALL)).send()).await {
            Err(failure) if failure.kind != StoreErrorKind::NotFound => Err(failure.at(&self.location, path)),
            _ => Ok(()),
        }
    }
}

/// Accepts "not found" only with an S3 error code, not from any other server that answers 404 at this address. (A
/// response to HEAD has no room for a code.)
fn by_the_store(failure: Failure) -> Failure {
    if failure.kind != StoreErrorKind::NotFound || failure.named {
        return failure;
    }
    let why = format!("{}, but it is not an S3 response; is the endpoint correct?", failure.why);
    Failure { kind: StoreErrorKind::Protocol, why, ..failure }
}
