//! Collections, WebDAV's directories: created on first use, from the outermost inwards, and cached.

use std::collections::HashSet;
use std::sync::Mutex;

use reqwest::StatusCode;

use super::server::Server;
use crate::store::StoreError;

/// The collections known to exist, by path from the server's root, without a trailing slash.
#[derive(Debug, Default)]
pub(super) struct Collections(Mutex<HashSet<String>>);

impl Collections {
    /// Creates a collection below the base (`""` is the base) and its missing parents, including those of the base.
    pub(super) async fn make(&self, server: &Server, collection: &str) -> Result<(), StoreError> {
        let from_root = format!("{}{collection}", server.base.path());
        let mut inner = Vec::new();
        let mut at = from_root.trim_end_matches('/');
        while !self.has(at) {
            match self.try_make(server, at).await {
                Ok(()) => break,
                Err((true, _)) if !at.is_empty() => {
                    inner.push(at);
                    at = parent(at);
                }
                Err((_, error)) => return Err(error),
            }
        }
        for at in inner.into_iter().rev() {
            self.try_make(server, at).await.map_err(|(_, error)| error)?;
        }
        Ok(())
    }

    /// Ensures that a collection exists; an error states whether its parent is missing.
    async fn try_make(&self, server: &Server, at: &str) -> Result<(), (bool, StoreError)> {
        let url = format!("{at}/");
        // Of two concurrent MKCOL requests, Apache refuses one (403); its retry then reports that the collection
        // exists.
        for attempt in [1, 2] {
            let request = server.request("MKCOL", &url).map_err(|e| (false, e))?;
            let answer = server.send(request, &url, 0).await.map_err(|e| (false, e))?;
            match answer.status() {
                // 405: the collection already exists.
                StatusCode::METHOD_NOT_ALLOWED => break,
                status if status.is_success() => break,
                StatusCode::FORBIDDEN if attempt == 1 => {}
                status => {
                    let around = matches!(status, StatusCode::CONFLICT | StatusCode::NOT_FOUND);
                    return Err((around, server.refused("MKCOL", &url, &answer)));
                }
            }
        }
        self.remember(at);
        Ok(())
    }

    /// Clears the cache, after another writer has removed collections.
    pub(super) fn forget(&self) {
        if let Ok(mut known) = self.0.lock() {
            known.clear();
        }
    }

    fn has(&self, collection: &str) -> bool {
        self.0.lock().is_ok_and(|known| known.contains(collection))
    }

    /// If a collection exists, so do its parents.
    fn remember(&self, collection: &str) {
        let Ok(mut known) = self.0.lock() else { return };
        let mut at = collection;
        while known.insert(at.to_owned()) && !at.is_empty() {
            at = parent(at);
        }
    }
}

/// The parent collection of a path, `""` for the base.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
