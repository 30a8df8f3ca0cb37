//! Writing whole objects: upload, verify, move.
//!
//! A 201 response to PUT does not prove that the server has stored everything. So the object's size is queried before
//! it gets its name: one HEAD each.

use std::convert::Infallible;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::stream;
use reqwest::header::HeaderMap;
use reqwest::{Body, StatusCode};

use super::{WebDav, collections, listing};
use crate::format::layout::{RepoPath, TEMPORARY};
use crate::store::{Put, StoreError, StoreErrorKind};

/// Apache lists this in the `DAV` header if mod_dav_fs stores the files.
const MOD_DAV_FS: &str = "http://apache.org/dav/propset/fs/1";

/// What a MOVE does if its destination exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overwrite {
    Yes,
    No,
}

/// Outcome of a write attempt that did not fail for good.
enum Written {
    Done(Put),
    /// A collection or the temporary object may have been removed by another writer.
    Displaced(StoreError),
}

impl WebDav {
    /// Writes an object; retries once if another writer swept away its collection or temporary object.
    pub(super) async fn write(&self, path: &RepoPath, bytes: Bytes, overwrite: Overwrite) -> Result<Put, StoreError> {
        if let Written::Done(put) = self.try_write(path, bytes.clone(), overwrite).await? {
            return Ok(put);
        }
        self.collections.forget();
        match self.try_write(path, bytes, overwrite).await? {
            Written::Done(put) => Ok(put),
            Written::Displaced(error) => Err(error),
        }
    }

    async fn try_write(&self, path: &RepoPath, bytes: Bytes, overwrite: Overwrite) -> Result<Written, StoreError> {
        let parent = collections::parent(path.as_str());
        self.collections.make(&self.server, TEMPORARY).await?;
        let temporary = format!("{TEMPORARY}/{}-{}", self.token, self.temporaries.fetch_add(1, Ordering::Relaxed));
        // The target collection is created during the upload.
        let made = self.collections.make(&self.server, parent);
        let (sent, made) = tokio::join!(self.upload(&temporary, bytes.clone()), made);
        if let Written::Displaced(error) = sent? {
            return Ok(Written::Displaced(error));
        }
        let arrived = match made {
            Ok(()) => self.look_at(&temporary, &bytes).await,
            Err(error) => Err(error),
        };
        let moved = match arrived {
            Ok(Written::Done(_)) => self.move_temporary(&temporary, path, overwrite).await,
            not_arrived => not_arrived,
        };
        if !matches!(moved, Ok(Written::Done(Put::Created))) {
            // If this fails too, the next sweep removes it.
            let _ = self.server.delete(&temporary).await;
        }
        moved
    }

    /// Replaces an object, atomically for readers if the server supports it.
    ///
    /// Apache deletes the destination of a MOVE before it renames (13 of 1164 reads hit that moment). It writes the
    /// body of a PUT to a temporary file and renames that.
    pub(super) async fn replace(&self, path: &RepoPath, bytes: Bytes) -> Result<(), StoreError> {
        if !*self.renames_after_put.get_or_try_init(|| self.is_mod_dav_fs()).await? {
            return self.write(path, bytes, Overwrite::Yes).await.map(drop);
        }
        let (at, parent) = (path.as_str(), collections::parent(path.as_str()));
        self.collections.make(&self.server, parent).await?;
        if let Written::Displaced(_) = self.upload(at, bytes.clone()).await? {
            self.collections.forget();
            self.collections.make(&self.server, parent).await?;
            if let Written::Displaced(error) = self.upload(at, bytes.clone()).await? {
                return Err(error);
            }
        }
        match self.look_at(at, &bytes).await? {
            Written::Done(_) => Ok(()),
            Written::Displaced(error) => Err(error),
        }
    }

    /// Verifies that the upload to `at` is complete: by its size, or by reading it back if the server does not report
    /// the right size.
    async fn look_at(&self, at: &str, bytes: &Bytes) -> Result<Written, StoreError> {
        let size = match listing::size(&self.server, at).await {
            Ok(None) => {
                let why = "it is not there any more, though the server answered that it was stored";
                return Ok(Written::Displaced(self.server.error(at, StoreErrorKind::Unreachable, why)));
            }
            // The server reports no size.
            Err(e) if e.kind() == StoreErrorKind::Protocol => None,
            size => size?,
        };
        if size == Some(bytes.len() as u64) {
            return Ok(Written::Done(Put::Created));
        }
        let answer = self.server.send(self.server.request("GET", at)?, at, 0).await?;
        if answer.status() != StatusCode::OK {
            return Err(self.server.refused("GET", at, &answer));
        }
        let found = match self.server.body(at, answer, bytes.len() as u64).await {
            Err(e) if e.kind() == StoreErrorKind::TooLong => None,
            found => Some(found?),
        };
        if found.as_ref() == Some(bytes) {
            return Ok(Written::Done(Put::Created));
        }
        let there = found.map_or("more than all".to_owned(), |found| found.len().to_string());
        let why = format!("{there} of {} bytes arrived, though the server answered that it was stored", bytes.len());
        Err(self.server.error(at, StoreErrorKind::Unreachable, why))
    }

    async fn is_mod_dav_fs(&self) -> Result<bool, StoreError> {
        let answer = self.server.send(self.server.request("OPTIONS", "")?, "", 0).await?;
        let says = |headers: &HeaderMap| {
            let mut dav = headers.get_all("dav").into_iter().filter_map(|value| value.to_str().ok());
            dav.any(|value| value.contains(MOD_DAV_FS))
        };
        Ok(answer.status().is_success() && says(answer.headers()))
    }

    async fn upload(&self, at: &str, bytes: Bytes) -> Result<Written, StoreError> {
        let length = bytes.len() as u64;
        // nginx answers 500 to a body with an announced length of zero, but not to an empty body of unknown length.
        let nothing = || Body::wrap_stream(stream::empty::<Result<Bytes, Infallible>>());
        let body = if bytes.is_empty() { nothing() } else { bytes.into() };
        let answer = self.server.send(self.server.request("PUT", at)?.body(body), at, length).await?;
        let refused = || self.server.refused("PUT", at, &answer);
        match answer.status() {
            StatusCode::CONFLICT | StatusCode::NOT_FOUND => Ok(Written::Displaced(refused())),
            status if status.is_success() => Ok(Written::Done(Put::Created)),
            _ => Err(refused()),
        }
    }

    async fn move_temporary(
        &self,
        temporary: &str,
        path: &RepoPath,
        overwrite: Overwrite,
    ) -> Result<Written, StoreError> {
        let request = self.server.request("MOVE", temporary)?.header("destination", self.server.url(path.as_str()));
        let request = request.header("overwrite", if overwrite == Overwrite::Yes { "T" } else { "F" });
        let answer = self.server.send(request, path.as_str(), 0).await?;
        let refused = || self.server.refused("MOVE", path.as_str(), &answer);
        // A multi-status means that some of it failed.
        let is_done = answer.status().is_success() && answer.status() != StatusCode::MULTI_STATUS;
        match answer.status() {
            _ if is_done => Ok(Written::Done(Put::Created)),
            StatusCode::PRECONDITION_FAILED if overwrite == Overwrite::No => Ok(Written::Done(Put::Exists)),
            // Not every server answers 412 if the destination exists: 400, 409 and a multi-status with an inner 412
            // were observed.
            _ if overwrite == Overwrite::No && self.is_there(path).await => Ok(Written::Done(Put::Exists)),
            // A missing collection or temporary object is 404 or 409 by the RFC, 500 on Apache, 403 on rclone.
            StatusCode::NOT_FOUND
            | StatusCode::CONFLICT
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::FORBIDDEN => Ok(Written::Displaced(refused())),
            _ => Err(refused()),
        }
    }

    async fn is_there(&self, path: &RepoPath) -> bool {
        listing::size(&self.server, path.as_str()).await.is_ok_and(|size| size.is_some())
    }
}
