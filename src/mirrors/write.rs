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
            return directory(text);
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
        if rest.contains(['?', '#']) || rest.chars().any(|c| c.is_control() || c == ' ') {
            return Err(WriteError::Char);
        }
        check_host(authority)?;
        Ok(Self::Remote { scheme: scheme.to_owned(), shown: format!("{scheme}://{authority}/{path}") })
    }
}

/// A text without a protocol is a directory, unless it looks like a place on another machine.
fn directory(text: &str) -> Result<WritePlace, WriteError> {
    let first = text.split('/').next().unwrap_or_default();
    if first.contains(['@', ':']) { Err(WriteError::NoScheme) } else { Ok(WritePlace::Directory(text.to_owned())) }
}

/// `[user@]host[:port]`, or a bucket.
fn check_host(authority: &str) -> Result<(), WriteError> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    if host.is_empty() {
        return Err(WriteError::Host);
    }
    match port {
        Some(port) if !port.parse::<u16>().is_ok_and(|p| p > 0 && p.to_string() == port) => Err(WriteError::Port),
        _ => Ok(()),
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
    /// A place on another machine, but not how to get there.
    #[error("which protocol? (expected a URL like sftp://user@host/path, or ./directory)")]
    NoScheme,
    /// No host, or no bucket.
    #[error("the URL names no host")]
    Host,
    /// A port that is none.
    #[error("the port of the URL is not a number from 1 to 65535")]
    Port,
    /// Something that such a URL has no place for.
    #[error("the URL has no query, no fragment and no spaces")]
    Char,
    /// A secret where everybody can read it.
    #[error("a password does not belong into the URL; name an environment variable that holds it")]
    Password,
}
