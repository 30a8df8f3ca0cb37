//! Order in which mirrors are asked for an object that all of them should have.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::store::Store;

/// Mirrors that failed to return an object they should have. They are asked last from then on, so that a slow mirror
/// delays once and not for each object.
#[derive(Debug, Default)]
pub struct SourceOrder(Mutex<HashSet<String>>);

impl SourceOrder {
    /// Records that a mirror failed.
    pub fn note(&self, store: &dyn Store) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(store.location().to_owned());
    }

    /// The mirrors in the order to ask them.
    pub fn order<'a>(&self, stores: impl IntoIterator<Item = &'a dyn Store>) -> Vec<&'a dyn Store> {
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stores: Vec<&dyn Store> = stores.into_iter().collect();
        stores.sort_by_key(|store| failed.contains(store.location()));
        stores
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::Directory;

    #[test]
    fn who_failed_is_asked_last() {
        let (one, two, three) = (Directory::new("/one"), Directory::new("/two"), Directory::new("/three"));
        let (stores, unreliable): ([&dyn Store; 3], _) = ([&one, &two, &three], SourceOrder::default());
        let order = || unreliable.order(stores).iter().map(|store| store.location().to_owned()).collect::<Vec<_>>();
        assert_eq!(order(), ["/one", "/two", "/three"]);
        unreliable.note(&one);
        assert_eq!(order(), ["/two", "/three", "/one"]);
        unreliable.note(&three);
        assert_eq!(order(), ["/two", "/one", "/three"]);
    }
}
