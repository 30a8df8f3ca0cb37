//! Any further file that a head names.

use std::sync::Arc;

use bytes::Bytes;

use super::ReadError;
use crate::block::unwrapped;
use crate::digest::Sha256;
use crate::head::FileRow;
use crate::store::Fetch;

/// The file that `row` names, exactly.
///
/// # Errors
/// A store that fails; a file with another length or digest.
pub async fn file(store: &dyn Fetch, row: &FileRow) -> Result<Bytes, ReadError> {
    let mut file = store.get(&row.path, row.bytes).await?;
    if let Some(plain) = unwrapped(&file, row.bytes).filter(|plain| Sha256::of(plain) == row.sha256) {
        file = plain.into();
    }
    if file.len() as u64 != row.bytes || Sha256::of(&file) != row.sha256 {
        return Err(ReadError::unverified(store, &row.path, "not the file that the head names (its SHA-256 differs)"));
    }
    Ok(file)
}

/// The file that `row` names, from the first store that has it right.
///
/// # Errors
/// No store that has; a file of more than `max_bytes`.
pub async fn file_from(stores: &[Arc<dyn Fetch>], row: &FileRow, max_bytes: u64) -> Result<Bytes, ReadError> {
    if row.bytes > max_bytes {
        return Err(ReadError::too_large(&row.path, row.bytes, max_bytes));
    }
    let mut failed = None;
    for store in stores {
        match file(&**store, row).await {
            Ok(file) => return Ok(file),
            Err(e) => e.add_to(&mut failed),
        }
    }
    Err(failed.unwrap_or_else(ReadError::no_source))
}
