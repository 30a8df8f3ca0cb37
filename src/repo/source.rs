//! SOURCE on a command line: an image in a repository, `https://host/base/NAME` or `directory/NAME`, either with
//! `@VERSION`.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::format::name::{Name, Version};
use crate::format::url::BaseUrl;
use crate::store::directory::Directory;
use crate::store::http::{Http, HttpClient};
use crate::store::{Fetch, StoreError};

/// Base of a repository, as a reader reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// HTTP base URL.
    Url(BaseUrl),
    /// Local directory.
    Directory(PathBuf),
}

/// An image in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Base of the repository.
    pub base: Base,
    /// Image name.
    pub image: Name,
    /// The version after `@`; `None` for the newest.
    pub version: Option<Version>,
}

/// The name of an image and the version after `@`, if any: `debian`, `debian@42`.
///
/// # Errors
/// No name, or no version.
pub fn versioned(text: &str) -> Result<(Name, Option<Version>), String> {
    let (name, version) = match text.split_once('@') {
        Some((name, version)) => (name, Some(version.parse::<Version>().map_err(|e| e.to_string())?)),
        None => (text, None),
    };
    Ok((name.parse::<Name>().map_err(|e| e.to_string())?, version))
}

impl Base {
    /// The store to read from.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn fetch(&self) -> Result<Arc<dyn Fetch>, StoreError> {
        Ok(match self {
            Self::Url(url) => Arc::new(Http::new(HttpClient::new()?, url.clone())),
            Self::Directory(path) => Arc::new(Directory::new(path)),
        })
    }
}

impl Source {
    /// Whether only a name was given, without a place.
    pub fn is_name_alone(&self) -> bool {
        matches!(&self.base, Base::Directory(path) if path.as_os_str() == ".")
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let error = |why: String| SourceError { text: text.to_owned(), why };
        let trimmed = text.trim_end_matches('/');
        let named = |name: &str| versioned(name.strip_suffix(".head").unwrap_or(name)).map_err(error);
        if trimmed.contains("://") {
            let (base, name) = trimmed.rsplit_once('/').ok_or_else(|| error("no image is named".into()))?;
            let base: BaseUrl =
                format!("{base}/").parse().map_err(|e: crate::format::url::UrlError| error(e.to_string()))?;
            let (image, version) = named(name)?;
            return Ok(Self { base: Base::Url(base), image, version });
        }
        let path = Path::new(trimmed);
        let name = path.file_name().and_then(|n| n.to_str()).ok_or_else(|| error("no image is named".into()))?;
        let base = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let (image, version) = named(name)?;
        Ok(Self { base: Base::Directory(base), image, version })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.base {
            Base::Url(url) => write!(f, "{url}{}", self.image)?,
            Base::Directory(path) => write!(f, "{}", path.join(self.image.as_str()).display())?,
        }
        self.version.map_or(Ok(()), |version| write!(f, "@{version}"))
    }
}

/// Makes a path absolute without accessing it, which may hang.
pub fn absolute(path: &Path) -> PathBuf {
    let Ok(mut absolute) = std::env::current_dir() else { return path.to_owned() };
    let mut leads = true;
    for component in path.components() {
        match component {
            Component::CurDir => {}
            // The working directory's name contains no symbolic links; a later component may be one.
            Component::ParentDir if leads => {
                absolute.pop();
            }
            other => {
                leads = false;
                absolute.push(other);
            }
        }
    }
    absolute
}

/// The name under which versions seen in a store are recorded, see [`super::rollback`]. It is the same for all
/// programs, whatever their working directory.
pub fn place(store: &dyn Fetch) -> String {
    let location = store.location();
    let is_remote = location.split('/').next().is_some_and(|first| first.contains(':'));
    if is_remote { location.to_owned() } else { absolute(Path::new(location)).display().to_string() }
}

/// A text that does not name an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no source: {why} (expected http(s)://HOST/PATH/NAME or DIRECTORY/NAME, and @VERSION if not the newest)"
)]
pub struct SourceError {
    text: String,
    why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_one_name() {
        let here = std::env::current_dir().expect("a working directory");
        let place = |path: &str| super::place(&Directory::new(path));
        let same = |path: &str, expected: PathBuf| assert_eq!(place(path), expected.display().to_string(), "{path}");
        for path in ["a", "./a", "a/", ".//a/.", here.join("a").to_str().expect("text")] {
            same(path, here.join("a"));
        }
        same(".", here.clone());
        same("../a", here.parent().expect("not the root").join("a"));
        same("/a/link/../b", "/a/link/../b".into());
        let url: BaseUrl = "https://host/a/".parse().expect("a URL");
        assert_eq!(super::place(&Http::new(HttpClient::new().expect("a client"), url)), "https://host/a/");
    }
}
