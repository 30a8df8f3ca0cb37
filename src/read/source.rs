//! SOURCE on a command line: an image somewhere, `https://host/base/NAME` or `directory/NAME`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::name::Name;
use crate::store::directory::Directory;
use crate::store::http::{Http, HttpClient};
use crate::store::{Fetch, StoreError};
use crate::url::BaseUrl;

/// The base of a repository, as a reader reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Over HTTP.
    Url(BaseUrl),
    /// In a directory of this machine.
    Directory(PathBuf),
}

/// An image in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where the repository is.
    pub base: Base,
    /// The image's name.
    pub image: Name,
}

impl Source {
    /// The store to read from.
    ///
    /// # Errors
    /// When HTTP cannot be set up.
    pub fn fetch(&self) -> Result<Arc<dyn Fetch>, StoreError> {
        Ok(match &self.base {
            Base::Url(url) => Arc::new(Http::new(HttpClient::new()?, url.clone())),
            Base::Directory(path) => Arc::new(Directory::new(path)),
        })
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let error = |why: String| SourceError { text: text.to_owned(), why };
        let trimmed = text.trim_end_matches('/');
        let image_name =
            |name: &str| name.strip_suffix(".head").unwrap_or(name).parse::<Name>().map_err(|e| error(e.to_string()));
        if trimmed.contains("://") {
            let (base, name) = trimmed.rsplit_once('/').ok_or_else(|| error("no image is named".into()))?;
            let base: BaseUrl = format!("{base}/").parse().map_err(|e: crate::url::UrlError| error(e.to_string()))?;
            return Ok(Self { base: Base::Url(base), image: image_name(name)? });
        }
        let path = Path::new(trimmed);
        let name = path.file_name().and_then(|n| n.to_str()).ok_or_else(|| error("no image is named".into()))?;
        let base = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Ok(Self { base: Base::Directory(base), image: image_name(name)? })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.base {
            Base::Url(url) => write!(f, "{url}{}", self.image),
            Base::Directory(path) => write!(f, "{}", path.join(self.image.as_str()).display()),
        }
    }
}

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no source: {why} (expected http(s)://HOST/PATH/NAME or DIRECTORY/NAME)")]
pub struct SourceError {
    text: String,
    why: String,
}
