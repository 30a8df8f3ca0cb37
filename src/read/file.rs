//! Any further file that a head names.

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
