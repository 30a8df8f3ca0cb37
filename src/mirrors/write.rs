//! `write = "..."`: which protocol a mirror is written with.

use std::fmt;
use std::str::FromStr;

/// The schemes a mirror can be written with.
const REMOTE: [&str; 8] = ["s3", "webdav+http", "webdav+https", "sftp", "ftp", "ftps", "rsync", "rsync+ssh"];

/// Where a mirror is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WritePlace {
    /// A directory; a relative one is relative to mirrors.toml.
    Directory(String),
    /// Another machine, by one of the protocols hfl knows.
    Remote {
        /// The protocol.
        scheme: String,
        /// The URL without its password, if one was written into it.
        shown: String,
    },
}

impl FromStr for WritePlace {
    type Err = WriteError;

    fn from_str(text: &str) -> Result<Self, WriteError> {
        if text.is_empty() {
            return Err(WriteError::Empty);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::Directory(text.to_owned()));
        };
        if scheme == "file" {
            let absolute = rest.starts_with('/').then(|| rest.to_owned());
            return absolute.map(Self::Directory).ok_or(WriteError::File);
        }
        if !REMOTE.contains(&scheme) {
            return Err(WriteError::Scheme(scheme.to_owned()));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return Err(WriteError::Password);
        }
        Ok(Self::Remote { scheme: scheme.to_owned(), shown: format!("{scheme}://{authority}/{path}") })
    }
}

impl fmt::Display for WritePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => f.write_str(path),
            Self::Remote { shown, .. } => f.write_str(shown),
        }
    }
}

/// Why a text is no place to write to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Nothing at all.
    #[error("empty (expected a directory or a URL)")]
    Empty,
    /// `file://` with a host or a relative path.
    #[error("file:// needs an absolute path, as in file:///srv/hfl")]
    File,
    /// A protocol that hfl does not speak.
    #[error("unknown protocol `{0}` (known: ./directory, file, s3, webdav+http(s), sftp, ftp(s), rsync)")]
    Scheme(String),
    /// A secret where everybody can read it.
    #[error("a password does not belong into the URL; name an environment variable that holds it")]
    Password,
}
