//! How an object comes to its place, whole: sent, looked at, moved.
//!
//! That a server answers 201 to a PUT does not say that it has kept all of it. Its size is asked for before the object gets its
//! name: one HEAD each.

use std::convert::Infallible;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::stream;
use reqwest::header::HeaderMap;
use reqwest::{Body, StatusCode};

use super::{TEMPORARY, WebDav, collections, listing};
use crate::format::layout::RepoPath;
use crate::store::{Put, StoreError, StoreErrorKind};

/// Apache names this in `DAV` where mod_dav_fs keeps the files.
const MOD_DAV_FS: &str = "http://apache.org/dav/propset/fs/1";

/// What is to happen where the destination of a MOVE is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overwrite {
    Yes,
    No,
}

/// How an attempt to write ended that did not fail for good.
enum Written {
    Done(Put),
    /// A collection, or the temporary object itself, may have been taken away by another writer.
    Displaced(StoreError),
}

impl WebDav {
    /// Writes an object, once more where another writer swept away what it needs.
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
        // The collection that it will lie in is made while it is sent.
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
            // Where this fails too, the next one to sweep finds it.
            let _ = self.server.delete(&temporary).await;
        }
        moved
    }

    /// Replaces an object, at no moment of which a reader finds nothing there, if the server knows how.
    ///
    /// Apache removes what a MOVE is to overwrite before it renames (13 of 1164 reads met that moment), but what a PUT
    /// sends it writes aside and renames.
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

    /// Whether all of what was sent to `at` is there. By its size, where the server tells the right one; else it is read back.
    async fn look_at(&self, at: &str, bytes: &Bytes) -> Result<Written, StoreError> {
        let size = match listing::size(&self.server, at).await {
            Ok(None) => {
                let why = "it is not there any more, though the server answered that it was stored";
                return Ok(Written::Displaced(self.server.error(at, StoreErrorKind::Unreachable, why)));
            }
            // A server that tells no size.
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
        // To a body that is announced to be empty nginx answers 500; not to one that turns out to be.
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
        // A multi-status says that some of it went wrong.
        let is_done = answer.status().is_success() && answer.status() != StatusCode::MULTI_STATUS;
        match answer.status() {
            _ if is_done => Ok(Written::Done(Put::Created)),
            StatusCode::PRECONDITION_FAILED if overwrite == Overwrite::No => Ok(Written::Done(Put::Exists)),
            // Not every server says 412 where something is in the way: 400, 409 and a multi-status with 412 inside were seen.
            _ if overwrite == Overwrite::No && self.is_there(path).await => Ok(Written::Done(Put::Exists)),
            // A missing collection or temporary object is 404 or 409 by the book, 500 of Apache, 403 of rclone.
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
