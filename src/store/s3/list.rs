//! Listing in pages of a thousand objects, each with a continuation token.

use aws_sdk_s3::types::Object;

use super::Inner;
use super::cap::Cap;
use super::error::Failure;
use crate::store::{Entry, StoreError, StoreErrorKind};

/// Twice the maximum number of blocks of an image.
const ENTRIES_MAX: usize = 8_388_608;
/// The least a page counts towards the limit, so that endless empty pages end too.
const PAGE_MIN: usize = 100;
const PAGE: i32 = 1000;
/// Size limit of a page, in bytes: some stores send everything in one page.
const PAGE_MAX_BYTES: u64 = 64 << 20;

impl Inner {
    /// Lists every object below the directory `prefix`.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let place = format!("{}/{prefix}", self.location);
        let wrong = |why: &str| StoreError::whole(&place, StoreErrorKind::Protocol, why);
        let prefix = if prefix.is_empty() { self.base.clone() } else { format!("{}{prefix}/", self.base) };
        let (mut entries, mut counted, mut token) = (Vec::new(), 0, None);
        loop {
            let request = self.client.list_objects_v2().bucket(&self.bucket).max_keys(PAGE);
            let request = request.set_prefix(Some(prefix.clone()).filter(|p| !p.is_empty()));
            let request = request.set_continuation_token(token.clone()).customize();
            let page = self.answer(0, request.interceptor(Cap(PAGE_MAX_BYTES)).send()).await;
            let page = page.map_err(|failure| listing(failure).whole(&place))?;
            counted += page.contents().len().max(PAGE_MIN);
            entries.extend(page.contents().iter().filter_map(|object| self.entry(object)));
            if !page.is_truncated().unwrap_or(false) {
                return Ok(entries);
            }
            if counted > ENTRIES_MAX {
                return Err(wrong(&format!("the listing has more than {ENTRIES_MAX} objects")));
            }
            let next = page.next_continuation_token;
            if next.is_none() || next == token {
                return Err(wrong("the listing goes on, but does not say where"));
            }
            token = next;
        }
    }

    /// Converts a listed object; `None` if its key is not a repository path.
    fn entry(&self, object: &Object) -> Option<Entry> {
        let path = object.key()?.strip_prefix(&self.base)?.parse().ok()?;
        Some(Entry { path, bytes: object.size()?.try_into().ok()? })
    }
}

/// For a listing, "not found" means that the bucket is missing.
fn listing(failure: Failure) -> Failure {
    match failure.kind {
        StoreErrorKind::NotFound => Failure { kind: StoreErrorKind::Other, ..failure },
        _ => failure,
    }
}
