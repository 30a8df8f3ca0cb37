//! Configuration: server, directory, login and TLS.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::store::Secret;

/// Whether the connections are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Not encrypted: the password can be read in transit.
    None,
    /// Starts unencrypted and switches to TLS (AUTH TLS) before the login; never continues unencrypted.
    Explicit,
    /// Encrypted from the first byte, on a separate port.
    Implicit,
}

/// An FTP server and a directory on it.
#[derive(Debug, Clone)]
pub struct FtpConfig {
    /// Host name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port; default 21, or 990 with [`Tls::Implicit`].
    pub port: Option<u16>,
    /// User name; default an anonymous login.
    pub user: Option<String>,
    /// Base path: absolute, or relative to the user's initial directory.
    pub path: String,
    /// Password for the login.
    pub password: Option<Secret>,
    /// Whether the connections are encrypted.
    pub tls: Tls,
    /// File of certificates (PEM) of a private certificate authority, trusted too.
    pub ca_file: Option<PathBuf>,
}

impl FtpConfig {
    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or(if self.tls == Tls::Implicit { 990 } else { 21 })
    }

    /// The base URL for messages.
    pub(super) fn location(&self) -> String {
        let mut shown = String::from(if self.tls == Tls::None { "ftp://" } else { "ftps://" });
        if let Some(user) = &self.user {
            let _ = write!(shown, "{user}@");
        }
        let _ = if self.host.contains(':') { write!(shown, "[{}]", self.host) } else { write!(shown, "{}", self.host) };
        if let Some(port) = self.port {
            let _ = write!(shown, ":{port}");
        }
        let _ = write!(shown, "/{}", self.path.trim_end_matches('/'));
        shown
    }

    /// Prefix of an object's path on the server.
    pub(super) fn prefix(&self) -> String {
        // Some servers take a leading dash for an option.
        let dash = if self.path.starts_with('-') { "./" } else { "" };
        let slash = if self.path.is_empty() || self.path.ends_with('/') { "" } else { "/" };
        format!("{dash}{}{slash}", self.path)
    }

    /// Whether no text can break a command line and so inject another command.
    pub(super) fn is_one_line(&self) -> bool {
        let password = self.password.as_ref().map_or("", Secret::reveal);
        let texts = [&self.path, self.user.as_deref().unwrap_or_default(), password];
        !texts.iter().any(|text| text.contains(['\r', '\n', '\0']))
    }
}
