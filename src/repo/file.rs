//! Further files that a head names.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::open::first_of;
use super::{Confirm, ReadError, get_checked};
use crate::format::block::unwrapped;
use crate::format::digest::Sha256;
use crate::format::head::FileRow;
use crate::store::Fetch;

/// Time until a hedged request for a file goes to another store.
const FILE_WAIT: Duration = Duration::from_secs(5);

/// Fetches exactly the file that `row` names.
///
/// # Errors
/// A store that fails; a file with another length or digest.
pub async fn file(store: &dyn Fetch, row: &FileRow) -> Result<Bytes, ReadError> {
    get_checked(store, &row.path, row.bytes, Confirm::WrongOrMissing, |file| async move { checked(file, row) }).await
}

fn checked(mut file: Bytes, row: &FileRow) -> Result<Bytes, String> {
    if let Some(plain) = unwrapped(&file, row.bytes).filter(|plain| Sha256::of(plain) == row.sha256) {
        file = plain.into();
    }
    if file.len() as u64 != row.bytes || Sha256::of(&file) != row.sha256 {
        return Err("not the file that the head names (its SHA-256 differs)".into());
    }
    Ok(file)
}

/// The file that `row` names, from the first store that has it intact.
///
/// # Errors
/// No store has it intact; a file of more than `max_bytes`.
pub async fn file_from(stores: &[Arc<dyn Fetch>], row: &FileRow, max_bytes: u64) -> Result<Bytes, ReadError> {
    if row.bytes > max_bytes {
        return Err(ReadError::too_large(&row.path, row.bytes, max_bytes));
    }
    let ask = |store: &Arc<dyn Fetch>| {
        let (store, row) = (Arc::clone(store), row.clone());
        async move { file(&*store, &row).await }
    };
    first_of(stores.iter().map(ask), FILE_WAIT).await
}
