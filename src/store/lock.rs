//! Locking a store against other publishers.

use std::sync::Arc;

use super::{Lock, Store, StoreError, lease};

/// Locks `store`: with the store's own kind of lock where it has one, else with a lock object.
///
/// # Errors
/// [`StoreErrorKind::Locked`](super::StoreErrorKind::Locked) where another publisher holds it.
pub async fn lock(store: &Arc<dyn Store>) -> Result<Box<dyn Lock>, StoreError> {
    match store.own_lock().await? {
        Some(lock) => Ok(lock),
        None => lease::take(store).await,
    }
}
