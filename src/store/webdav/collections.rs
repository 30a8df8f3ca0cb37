//! Collections, which WebDAV calls its directories: made when something is first put into them, one after the other from
//! the outside in, and remembered.

use std::collections::HashSet;
use std::sync::Mutex;

use reqwest::StatusCode;

use super::server::Server;
use crate::store::StoreError;

/// The collections that are known to be there, by their paths from the server's root, without a slash at the end.
#[derive(Debug, Default)]
pub(super) struct Collections(Mutex<HashSet<String>>);

impl Collections {
    /// Makes a collection below the base (`""` is the base), and those around it where they are missing, those around
    /// the base too.
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

    /// Whether a collection is there now; an error says whether the one around it is missing.
    async fn try_make(&self, server: &Server, at: &str) -> Result<(), (bool, StoreError)> {
        let url = format!("{at}/");
        // Of two that make one at the same time, Apache refuses one (403), and would tell it the second time that the
        // collection is there.
        for attempt in [1, 2] {
            let request = server.request("MKCOL", &url).map_err(|e| (false, e))?;
            let answer = server.send(request, &url, 0).await.map_err(|e| (false, e))?;
            match answer.status() {
                // What is there already may not be made: 405.
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

    /// Somebody has taken collections away: nothing is known any more.
    pub(super) fn forget(&self) {
        if let Ok(mut known) = self.0.lock() {
            known.clear();
        }
    }

    fn has(&self, collection: &str) -> bool {
        self.0.lock().is_ok_and(|known| known.contains(collection))
    }

    /// Where a collection is, those around it are.
    fn remember(&self, collection: &str) {
        let Ok(mut known) = self.0.lock() else { return };
        let mut at = collection;
        while known.insert(at.to_owned()) && !at.is_empty() {
            at = parent(at);
        }
    }
}

/// The collection around a path, `""` for the base.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
