//! The mirrors and directories of one image, in the order in which they are tried.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::format::head::Head;
use crate::repo::source::{Base, place};
use crate::store::Fetch;
use crate::store::directory::Directory;
use crate::store::http::{Http, HttpClient, HttpOptions};

/// The longest silence of a mirror before another one is asked instead.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);

/// The repositories that an image can be read from.
#[derive(Debug)]
pub struct Mirrors {
    client: HttpClient,
    bases: Vec<Base>,
    /// Whether to ignore the mirrors named by a head.
    alone: bool,
    stores: Vec<Arc<dyn Fetch>>,
}

impl Mirrors {
    /// The repositories at `bases`, accessed through `client`.
    pub fn new(client: HttpClient, bases: impl IntoIterator<Item = Base>) -> Self {
        let mut all = Self { client, bases: Vec::new(), alone: false, stores: Vec::new() };
        bases.into_iter().for_each(|base| all.add(base));
        all
    }

    /// The repositories at `bases`, accessed with the options `http`.
    ///
    /// # Errors
    /// A proxy or certificates that cannot be used.
    pub fn connect(http: &HttpOptions, bases: impl IntoIterator<Item = Base>) -> Result<Self, Error> {
        let client = HttpClient::with(http).map_err(|e| Error::caused(ErrorKind::Usage, e))?;
        Ok(Self::new(client, bases))
    }

    /// Sets whether to ignore the mirrors named by a head.
    pub fn alone(self, alone: bool) -> Self {
        Self { alone, ..self }
    }

    /// Adds the mirrors named by a head, unless they are to be ignored.
    pub fn add_named(&mut self, head: &Head) {
        if self.alone {
            return;
        }
        head.mirrors.iter().for_each(|url| self.add(Base::Url(url.clone())));
    }

    /// The repositories as stores.
    pub fn stores(&self) -> &[Arc<dyn Fetch>] {
        &self.stores
    }

    /// The names of the repositories, as [`crate::repo::rollback`] remembers them.
    pub fn places(&self) -> Vec<String> {
        self.stores.iter().map(|store| place(&**store)).collect()
    }

    /// Adds a repository, unless it is already there.
    pub fn add(&mut self, base: Base) {
        if self.bases.contains(&base) {
            return;
        }
        self.stores.push(match &base {
            Base::Url(url) => Arc::new(Http::new(self.client.clone(), url.clone())),
            Base::Directory(path) => Arc::new(Directory::new(path)),
        });
        self.bases.push(base);
    }

    /// Resolves the host names of all mirrors now, so that they are known when no name server can be asked.
    pub async fn look_up(&self) {
        let urls = self.bases.iter().filter_map(|base| match base {
            Base::Url(url) => Some(url),
            Base::Directory(_) => None,
        });
        self.client.look_up(urls).await;
    }
}
