//! The places that one image can be read from, in the order in which they are tried.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::format::head::Head;
use crate::repo::source::{Base, place};
use crate::store::Fetch;
use crate::store::directory::Directory;
use crate::store::http::{Http, HttpClient, HttpOptions};

/// The longest silence of a mirror before another one is asked in its place.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);

/// The repositories that an image can be read from.
#[derive(Debug)]
pub struct Mirrors {
    client: HttpClient,
    bases: Vec<Base>,
    /// Whether those that a head names are left out.
    alone: bool,
    stores: Vec<Arc<dyn Fetch>>,
}

impl Mirrors {
    /// Those at `bases`, reached through `client`.
    pub fn new(client: HttpClient, bases: impl IntoIterator<Item = Base>) -> Self {
        let mut all = Self { client, bases: Vec::new(), alone: false, stores: Vec::new() };
        bases.into_iter().for_each(|base| all.add(base));
        all
    }

    /// Those at `bases`, reached as `http` says.
    ///
    /// # Errors
    /// A proxy or certificates that cannot be used.
    pub fn connect(http: &HttpOptions, bases: impl IntoIterator<Item = Base>) -> Result<Self, Error> {
        let client = HttpClient::with(http).map_err(|e| Error::caused(ErrorKind::Usage, e))?;
        Ok(Self::new(client, bases))
    }

    /// The same, or these alone, whatever a head names.
    pub fn alone(self, alone: bool) -> Self {
        Self { alone, ..self }
    }

    /// Adds the mirrors that a head names, unless these are to be asked alone.
    pub fn add_named(&mut self, head: &Head) {
        if self.alone {
            return;
        }
        head.mirrors.iter().for_each(|url| self.add(Base::Url(url.clone())));
    }

    /// Each of them, as a store.
    pub fn stores(&self) -> &[Arc<dyn Fetch>] {
        &self.stores
    }

    /// The names of the places, as [`crate::repo::rollback`] remembers them.
    pub fn places(&self) -> Vec<String> {
        self.stores.iter().map(|store| place(&**store)).collect()
    }

    /// Adds one, unless it is here already.
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

    /// Looks up the names of all mirrors, so that they are known when nobody can be asked any more.
    pub async fn look_up(&self) {
        let urls = self.bases.iter().filter_map(|base| match base {
            Base::Url(url) => Some(url),
            Base::Directory(_) => None,
        });
        self.client.look_up(urls).await;
    }
}
