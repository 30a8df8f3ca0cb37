//! Locking a store against other publishers.

use super::{Lock, Store, StoreError, StoreErrorKind};

/// Locks `store`, with the store's own kind of lock where it has one.
///
/// # Errors
/// [`StoreErrorKind::Locked`] where another publisher holds it.
pub async fn lock(store: &dyn Store) -> Result<Box<dyn Lock>, StoreError> {
    match store.own_lock().await? {
        Some(lock) => Ok(lock),
        None => Err(StoreError::whole(store.location(), StoreErrorKind::Other, "cannot be locked")),
    }
}
