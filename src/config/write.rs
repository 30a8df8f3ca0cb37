//! `write = "..."`: the protocol and place a mirror is written to.

use std::fmt;
use std::str::FromStr;

use crate::store::place::Remote;
use crate::store::protocols;

/// Where a mirror is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WritePlace {
    /// A directory; a relative path is relative to mirrors.toml.
    Directory(String),
    /// A remote place, by one of the protocols of this build.
    Remote(Remote),
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
        let (_, scheme) = protocols::find(scheme).ok_or_else(|| WriteError::Scheme(scheme.to_owned()))?;
        remote(scheme, text, rest).map(Self::Remote)
    }
}

fn remote(scheme: &'static str, text: &str, rest: &str) -> Result<Remote, WriteError> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    if user.is_some_and(|user| user.contains(':')) {
        return Err(WriteError::Password);
    }
    if rest.contains(['?', '#']) || rest.chars().any(|c| c.is_control() || c == ' ') {
        return Err(WriteError::Char);
    }
    let (host, port) = host_and_port(place)?;
    let path = path.trim_end_matches('/');
    let dots = path.split('/').any(|c| c == "." || c == "..");
    // A leading dash would make it an option of the program called with it.
    let option = |text: &str| text.starts_with('-');
    if dots || user.is_some_and(|user| user.is_empty() || option(user)) || option(host) {
        return Err(WriteError::Path);
    }
    Ok(Remote {
        scheme,
        user: user.map(str::to_owned),
        host: host.to_owned(),
        port,
        path: path.to_owned(),
        shown: text.to_owned(),
    })
}

/// A text without a scheme is a directory, unless it looks like a remote place.
fn directory(text: &str) -> Result<WritePlace, WriteError> {
    let first = text.split('/').next().unwrap_or_default();
    if first.contains(['@', ':']) { Err(WriteError::NoScheme) } else { Ok(WritePlace::Directory(text.to_owned())) }
}

/// `host[:port]`, `[address]:port`, or a bucket.
fn host_and_port(place: &str) -> Result<(&str, Option<u16>), WriteError> {
    let (host, port) = match place.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']').ok_or(WriteError::Host)?;
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(WriteError::Host)?) };
            (host, port)
        }
        None => place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(WriteError::Host);
    }
    let number = |port: &str| port.parse::<u16>().ok().filter(|p| *p > 0 && p.to_string() == port);
    let port = port.map(|port| number(port).ok_or(WriteError::Port)).transpose()?;
    Ok((host, port))
}

impl fmt::Display for WritePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => f.write_str(path),
            Self::Remote(remote) => remote.fmt(f),
        }
    }
}

/// Why a text is not a valid place to write to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The text is empty.
    #[error("empty (expected a directory or a URL)")]
    Empty,
    /// `file://` with a host or a relative path.
    #[error("file:// needs an absolute path, as in file:///srv/hfl")]
    File,
    /// An unknown scheme.
    #[error("unknown protocol `{0}` (known: ./directory, file, {known})", known = protocols::schemes())]
    Scheme(String),
    /// A remote place without a scheme.
    #[error("which protocol? (expected a URL like sftp://user@host/path, or ./directory)")]
    NoScheme,
    /// No host or bucket.
    #[error("the URL names no host")]
    Host,
    /// An invalid port.
    #[error("the port of the URL is not a number from 1 to 65535")]
    Port,
    /// A character that such a URL must not contain.
    #[error("the URL has no query, no fragment and no spaces")]
    Char,
    /// A path with dot components, or a name that a program would take for an option.
    #[error("the URL has no `.` or `..` in its path, no empty user, and no user or host that begins with `-`")]
    Path,
    /// A password in the URL, where others could read it.
    #[error("a password does not belong into the URL; name an environment variable that holds it")]
    Password,
}
