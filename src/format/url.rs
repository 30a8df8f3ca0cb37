//! The public base URL of a mirror: `http(s)://host[:port]/path/`, always with a trailing slash.

use std::fmt;
use std::str::FromStr;

use crate::format::layout::RepoPath;

/// Maximum length of a base URL, in bytes.
pub const URL_MAX_BYTES: usize = 1024;

/// A base URL without user, query or fragment; the path of an object is appended to it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// The URL of the object at `path`.
    pub fn join(&self, path: &RepoPath) -> String {
        format!("{}{path}", self.0)
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BaseUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or(UrlError::Scheme)?;
        if text.len() > URL_MAX_BYTES {
            return Err(UrlError::Long);
        }
        let (authority, path) = rest.split_once('/').ok_or(UrlError::Slash)?;
        if !path.is_empty() && !path.ends_with('/') {
            return Err(UrlError::Slash);
        }
        if path.split('/').any(|c| c == "." || c == "..") || path.contains("//") || path.starts_with('/') {
            return Err(UrlError::Dots);
        }
        check_authority(authority)?;
        check_escapes(path)?;
        Ok(Self(text.to_owned()))
    }
}

/// The path is used unquoted in boot scripts and web pages, so it has no character with a special meaning there; nor
/// `%2e`, which only some programs decode to a dot.
fn check_escapes(path: &str) -> Result<(), UrlError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~+,=:@/".contains(&b);
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'%', [b'2', b'e' | b'E', ..]) => return Err(UrlError::Dots),
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => after,
            (byte, after) if plain(byte) => after,
            _ => return Err(UrlError::Char),
        };
    }
    Ok(())
}

fn check_authority(authority: &str) -> Result<(), UrlError> {
    if authority.contains('@') {
        return Err(UrlError::User);
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']').ok_or(UrlError::Host)?;
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(UrlError::Host)?) };
            (host.parse::<std::net::Ipv6Addr>().map(|_| host).map_err(|_| UrlError::Host)?, port)
        }
        None => authority.split_once(':').map_or((authority, None), |(h, p)| (h, Some(p))),
    };
    let host_char = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    let no_label = host.split('.').any(str::is_empty);
    if no_label || !host.bytes().all(host_char) || host.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(UrlError::Host);
    }
    match port {
        Some(port) if !port.parse::<u16>().is_ok_and(|p| p > 0 && p.to_string() == port) => Err(UrlError::Port),
        _ => Ok(()),
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a base URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Neither http nor https.
    #[error("a base URL begins with http:// or https://")]
    Scheme,
    /// No slash at the end.
    #[error("a base URL ends with `/`")]
    Slash,
    /// A character that a base URL cannot have.
    #[error("the path of a base URL has only a-z A-Z 0-9 - . _ ~ + , = : @ / and %XX, no query and no fragment")]
    Char,
    /// More than [`URL_MAX_BYTES`].
    #[error("a base URL has at most {URL_MAX_BYTES} bytes")]
    Long,
    /// A path that is not in its shortest form.
    #[error("a base URL has no `.`, `..` or empty components")]
    Dots,
    /// A user name or password.
    #[error("a base URL is public: it has no user or password")]
    User,
    /// An invalid host.
    #[error("the host of the URL is not a lower-case host name or an address")]
    Host,
    /// An invalid port.
    #[error("the port of the URL is not a number from 1 to 65535")]
    Port,
}
