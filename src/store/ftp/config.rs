//! Which server, which directory on it, and how to get in.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::store::Secret;

/// Whether the connections are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Not at all: the password can be read on the way.
    None,
    /// The connection begins plain and is encrypted (AUTH TLS) before anything is told; never left plain.
    Explicit,
    /// Encrypted from the first byte, on a port of its own.
    Implicit,
}

/// An FTP server and a directory on it.
#[derive(Debug, Clone)]
pub struct FtpConfig {
    /// The server's name or address; an IPv6 address without brackets.
    pub host: String,
    /// The port: 21 where there is none, 990 with [`Tls::Implicit`].
    pub port: Option<u16>,
    /// Who logs in; nobody in particular where there is none.
    pub user: Option<String>,
    /// The base, relative to where the server puts the user, or absolute.
    pub path: String,
    /// The password.
    pub password: Option<Secret>,
    /// Whether the connections are encrypted.
    pub tls: Tls,
    /// Certificates (PEM) of a private authority that is believed too.
    pub ca_file: Option<PathBuf>,
}

impl FtpConfig {
    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or(if self.tls == Tls::Implicit { 990 } else { 21 })
    }

    /// The base for messages.
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

    /// What goes before the path of an object on the server.
    pub(super) fn prefix(&self) -> String {
        // What begins with a dash is an option to some servers.
        let dash = if self.path.starts_with('-') { "./" } else { "" };
        let slash = if self.path.is_empty() || self.path.ends_with('/') { "" } else { "/" };
        format!("{dash}{}{slash}", self.path)
    }

    /// A command is a line: what would end it early would begin another one.
    pub(super) fn is_one_line(&self) -> bool {
        let password = self.password.as_ref().map_or("", Secret::reveal);
        let texts = [&self.path, self.user.as_deref().unwrap_or_default(), password];
        !texts.iter().any(|text| text.contains(['\r', '\n', '\0']))
    }
}
