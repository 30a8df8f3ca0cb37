//! Opens the store that a table in mirrors.toml describes.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;

use crate::config::{Mirror, WritePlace};
use crate::error::Error;
use crate::store::directory::Directory;
use crate::store::http::{Http, HttpClient};
use crate::store::place::Place;
use crate::store::{Fetch, Store, cache_mark, protocols};

/// Opens the locations that mirrors.toml names. A simulation has its own implementation.
#[async_trait]
pub trait Connect: Send + Sync + std::fmt::Debug {
    /// The store used to write a mirror, without retries.
    ///
    /// # Errors
    /// The protocol is not compiled in; a secret is missing.
    async fn store(&self, config: &Mirror, relative_to: &Path) -> Result<Arc<dyn Store>, Error>;

    /// The URL where clients read a mirror, if the publisher can read there too.
    ///
    /// # Errors
    /// HTTP cannot be set up.
    fn public(&self, config: &Mirror) -> Result<Option<Arc<dyn Fetch>>, Error>;
}

/// The store drivers compiled into this hfl.
#[derive(Debug, Default)]
pub struct Drivers {
    http: OnceLock<HttpClient>,
}

#[async_trait]
impl Connect for Drivers {
    async fn store(&self, config: &Mirror, relative_to: &Path) -> Result<Arc<dyn Store>, Error> {
        Ok(match &config.write {
            WritePlace::Directory(path) => Arc::new(Directory::new(relative_to.join(path))),
            WritePlace::Remote(remote) => {
                let place = Place { mirror: config.name.as_str(), remote, values: &config.access, relative_to };
                let (protocol, _) = protocols::find(remote.scheme)
                    .ok_or_else(|| place.usage(format!("this hfl was built without {}://", remote.scheme)))?;
                (protocol.open)(&place).await?
            }
        })
    }

    fn public(&self, config: &Mirror) -> Result<Option<Arc<dyn Fetch>>, Error> {
        let Some(url) = config.read.clone().filter(|_| config.read_back) else { return Ok(None) };
        let client = match self.http.get() {
            Some(client) => client.clone(),
            None => {
                let new = HttpClient::new()?;
                self.http.get_or_init(|| new).clone()
            }
        };
        Ok(Some(Arc::new(Http::new(client, url))))
    }
}

/// Refuses a cache directory as a mirror: its files may be removed at any time.
///
/// # Errors
/// The directory carries the mark of a cache.
pub fn refuse_cache(config: &Mirror, relative_to: &Path) -> Result<(), Error> {
    let WritePlace::Directory(path) = &config.write else { return Ok(()) };
    let path = &relative_to.join(path);
    if !cache_mark::is_marked(path).map_err(|e| Error::io(path, &e))? {
        return Ok(());
    }
    let why = format!("mirror {}: {} is a cache of hfl-mount, no mirror", config.name, path.display());
    Err(Error::local(why).hint("its files are removed at any time (CACHEDIR.TAG); name another directory"))
}
