//! Looks now and then whether there is a newer version than the one that is read, and what it would cost.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::notice::{NewerVersion, Notice, Observer};
use super::updates::MOUNT_MAX_BYTES;
use crate::format::difference::Difference;
use crate::format::update::Update;
use crate::repo::{self, OpenOptions, Opened};
use crate::store::Fetch;

/// What the last look found.
#[derive(Debug, Clone, Default)]
pub struct Newer(Arc<Mutex<Option<NewerVersion>>>);

impl Newer {
    /// The newer version, if there is one.
    pub fn get(&self) -> Option<NewerVersion> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks every `pause`, forever. A version is reported once.
    pub async fn keep_looking(
        self,
        opened: Opened,
        stores: Vec<Arc<dyn Fetch>>,
        accept: OpenOptions,
        pause: Duration,
        observer: Arc<dyn Observer>,
    ) {
        // A look is no use of the image: it neither records what was seen nor refuses an older state.
        let accept = OpenOptions { state: None, ..accept }.version(None);
        loop {
            tokio::time::sleep(pause).await;
            let known = self.get().map_or(opened.row.version, |newer| newer.version);
            // A mirror that does not answer now may do so at the next look.
            let Ok(head) = repo::open_head(&stores, &accept).await else { continue };
            if head.head.newest().version <= known {
                continue;
            }
            let Ok(newest) = repo::open(&stores, &accept).await else { continue };
            let newer = cost(&opened, &newest, &stores).await;
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(newer);
            observer.notice(Notice::NewerVersion(newer));
        }
    }
}

async fn cost(opened: &Opened, newest: &Opened, stores: &[Arc<dyn Fetch>]) -> NewerVersion {
    let added = Difference::between(&opened.index, &newest.index).added;
    let download_bytes = added.zlib_bytes + newest.row.index_bytes;
    let row = Update::row_between(&newest.head, opened.row.version, newest.row.version);
    let update = match row {
        Some(row) => repo::file_from(stores, row, MOUNT_MAX_BYTES).await.ok().and_then(|f| Update::parse(&f).ok()),
        None => None,
    };
    let with = update
        .zip(row)
        .map(|(update, row)| (download_bytes + row.bytes).saturating_sub(update.saved_bytes(newest.index.blocks())));
    NewerVersion { version: newest.row.version, download_bytes, download_bytes_with_deltas: with }
}
