//! A source that reports failures to the observer, even if another source makes up for them.

use std::sync::Arc;

use async_trait::async_trait;

use crate::client::notice::{Notice, Observer};
use crate::format::block::BlockRow;
use crate::repo::{BlockSource, Fetched, ReadError};

/// A source with reported failures.
#[derive(Debug)]
pub struct Observed<S> {
    inner: S,
    name: Arc<str>,
    observer: Arc<dyn Observer>,
}

impl<S> Observed<S> {
    /// Notifies `observer` when `inner`, called `name`, fails.
    pub fn new(inner: S, name: &str, observer: Arc<dyn Observer>) -> Self {
        Self { inner, name: name.into(), observer }
    }
}

#[async_trait]
impl<S: BlockSource> BlockSource for Observed<S> {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        let fetched = self.inner.fetch(row).await;
        if let Err(error) = &fetched {
            let (source, error) = (Arc::clone(&self.name), error.clone());
            self.observer.notice(Notice::SourceFailed { source, error });
        }
        fetched
    }
}
