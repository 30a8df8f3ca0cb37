//! From a table of mirrors.toml to the store that it describes: the driver, its limits, its retries.

use std::path::Path;
use std::sync::Arc;

use super::error::{Error, ErrorKind};
use crate::mirrors::{Mirror, Remote, WritePlace};
use crate::store::Store;
use crate::store::directory::Directory;
use crate::store::limit::Limited;
use crate::store::retry::Retried;

/// The store that a mirror is written to; relative files are relative to `relative_to`.
///
/// # Errors
/// A protocol that was left out of this hfl; a secret that is not where it should be.
pub fn store(config: &Mirror, relative_to: &Path) -> Result<Arc<dyn Store>, Error> {
    let mut store: Arc<dyn Store> = match &config.write {
        WritePlace::Directory(path) => Arc::new(Directory::new(relative_to.join(path))),
        WritePlace::Remote(remote) => Arc::new(Retried::new(driver(config, remote)?)),
    };
    if let Some(rate) = config.rate {
        store = Arc::new(Limited::new(store, rate));
    }
    Ok(store)
}

fn driver(config: &Mirror, remote: &Remote) -> Result<Arc<dyn Store>, Error> {
    let message = format!("mirror {}: this hfl was built without {}://", config.name, remote.scheme);
    Err(Error::new(ErrorKind::Usage, message))
}
