//! Opens an image from several stores: the newest head that any of them has and that is believed, and its index.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{FoundHead, ReadError, head, index};
use crate::head::{Head, Trust, VersionRow};
use crate::index::Index;
use crate::name::{Name, Version};
use crate::store::Fetch;

/// How many stores are asked for a head at the same time.
const HEADS_AT_ONCE: usize = 3;
/// How long the others of these may still answer once one head is there: a newer one is worth no more.
const SECOND_HEAD_WAIT: Duration = Duration::from_secs(2);

/// An image as a reader opened it: one version, believed.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The head that vouches for it.
    pub head: Head,
    /// Its file.
    pub head_file: Bytes,
    /// The row of the version.
    pub row: VersionRow,
    /// Its index.
    pub index: Arc<Index>,
}

/// Opens `version` (the newest where `None`) of `image` from the stores: the highest believed head of all of them wins,
/// and the index comes from any that has it.
///
/// # Errors
/// When no store has a head that is believed, or none the index; the last reason is given.
pub async fn open(
    stores: &[Arc<dyn Fetch>],
    image: &Name,
    trust: &Trust,
    version: Option<Version>,
) -> Result<Opened, ReadError> {
    let (FoundHead { head, file: head_file, .. }, from) = newest_head(stores, image, trust).await?;
    let row = match version {
        None => head.newest(),
        Some(version) => head.version(version).ok_or_else(|| ReadError::no_version(&head, version))?,
    };
    let mut last = None;
    // Where the head came from works; the others may take their time to show that they do not.
    let others = stores.iter().filter(|store| !Arc::ptr_eq(store, &from));
    for store in std::iter::once(&from).chain(others) {
        match index(&**store, image, row).await {
            Ok(index) => return Ok(Opened { row: row.clone(), index: Arc::new(index), head, head_file }),
            Err(e) => last = Some(e),
        }
    }
    Err(last.unwrap_or_else(ReadError::no_source))
}

/// A head, and the store that it came from.
type HeadFrom = (FoundHead, Arc<dyn Fetch>);

/// The believed head with the highest version of all stores that answered; a few are asked at once, the next few only
/// where none of those had one.
async fn newest_head(stores: &[Arc<dyn Fetch>], image: &Name, trust: &Trust) -> Result<HeadFrom, ReadError> {
    let mut failed: Option<ReadError> = None;
    for few in stores.chunks(HEADS_AT_ONCE) {
        match newest_of(few, image, trust).await {
            Ok(found) => return Ok(found),
            Err(e) => e.add_to(&mut failed),
        }
    }
    Err(failed.unwrap_or_else(ReadError::no_source))
}

async fn newest_of(stores: &[Arc<dyn Fetch>], image: &Name, trust: &Trust) -> Result<HeadFrom, ReadError> {
    let mut asked = tokio::task::JoinSet::new();
    for store in stores {
        let (store, image, trust) = (Arc::clone(store), image.clone(), trust.clone());
        asked.spawn(async move {
            let found = head(&*store, &image, &trust).await?;
            let found = found.ok_or_else(|| ReadError::no_image(&*store, &image))?;
            Ok::<_, ReadError>((found, store))
        });
    }
    let (mut best, mut failed): (Option<HeadFrom>, Option<ReadError>) = (None, None);
    loop {
        let patience = if best.is_some() { SECOND_HEAD_WAIT } else { Duration::MAX };
        match tokio::time::timeout(patience, asked.join_next()).await {
            Err(_) | Ok(None) => break,
            Ok(Some(Err(panicked))) => std::panic::resume_unwind(panicked.into_panic()),
            Ok(Some(Ok(Ok(found)))) => {
                let newer = best.as_ref().is_none_or(|(b, _)| b.head.newest().version < found.0.head.newest().version);
                best = if newer { Some(found) } else { best };
            }
            Ok(Some(Ok(Err(e)))) => e.add_to(&mut failed),
        }
    }
    best.ok_or_else(|| failed.unwrap_or_else(ReadError::no_source))
}
