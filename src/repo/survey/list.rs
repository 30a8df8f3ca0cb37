//! The list of images on a mirror.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::flaw::{Flaw, ProblemKind};
use crate::format::image_list;
use crate::format::layout::RepoPath;
use crate::format::name::Name;
use crate::store::{Fetch, StoreError, StoreErrorKind};

/// State of a mirror's list of images.
#[derive(Debug, Clone, Default)]
pub struct ListState {
    /// Contents of the list; `None` if it is missing or too long to be read.
    pub file: Option<Bytes>,
    /// Valid names in it.
    pub names: BTreeSet<Name>,
    /// Problem with the list, if any.
    pub flaw: Option<Flaw>,
}

impl ListState {
    /// Reads the list of a mirror.
    ///
    /// # Errors
    /// A mirror that cannot be reached, or does not deliver the list.
    pub async fn read(store: &dyn Fetch) -> Result<Self, StoreError> {
        match store.get(&RepoPath::images(), image_list::FILE_MAX_BYTES).await {
            Ok(file) => Ok(Self::of(file)),
            Err(e) if e.kind() == StoreErrorKind::NotFound => Ok(Self::default()),
            Err(e) if e.kind() == StoreErrorKind::TooLong => Ok(Self {
                flaw: Some(Flaw::new(ProblemKind::Wrong, format!("too long: {}", e.why()))),
                ..Self::default()
            }),
            Err(e) => Err(e),
        }
    }

    fn of(file: Bytes) -> Self {
        let (names, wrong) = image_list::read(&file);
        let flaw = wrong.map(|e| Flaw::new(ProblemKind::Wrong, e.to_string()));
        Self { file: Some(file), names, flaw }
    }

    /// Whether the mirror has no list.
    pub fn is_absent(&self) -> bool {
        self.file.is_none() && self.flaw.is_none()
    }
}
