//! A remote place that mirrors are written to, and its access settings from mirrors.toml.
//!
//! Secrets come from environment variables or files that only their owner can read, and go straight to the driver.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::key::{Key, PASSWORD_ENV, PASSWORD_FILE, Value};
use super::secret::Secret;
use crate::error::Error;

/// The largest password file, in bytes.
const PASSWORD_MAX_BYTES: u64 = 4096;

/// A remote place: `scheme://[user@]host[:port]/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// The URL scheme.
    pub scheme: &'static str,
    /// User name to log in with.
    pub user: Option<String>,
    /// The host or bucket name; an IPv6 address without its brackets.
    pub host: String,
    /// The port, if not the protocol's default.
    pub port: Option<u16>,
    /// The path, without leading and trailing slash.
    pub path: String,
    /// The URL as written; it contains no password.
    pub shown: String,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Values of the protocol-specific keys of a `[[mirror]]` table, by key name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values(pub BTreeMap<&'static str, Value>);

impl Values {
    /// The value of a text, file or variable key.
    pub fn text(&self, key: Key) -> Option<&str> {
        match self.0.get(key.name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }
}

/// A place with its settings from mirrors.toml.
#[derive(Debug)]
pub struct Place<'a> {
    /// The mirror's name, for messages.
    pub mirror: &'a str,
    /// Its URL, parsed.
    pub remote: &'a Remote,
    /// Values of its protocol-specific keys.
    pub values: &'a Values,
    /// Base directory of relative file names.
    pub relative_to: &'a Path,
}

impl Place<'_> {
    /// The path on the host: absolute, unless it begins with `~/` (the home directory).
    pub fn absolute_path(&self) -> String {
        let path = &self.remote.path;
        if path == "~" || path.starts_with("~/") { path.clone() } else { format!("/{path}") }
    }

    /// The base URL with another scheme, without the user.
    pub fn url(&self, scheme: &str) -> String {
        let Remote { host, port, path, .. } = self.remote;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let slash = if path.is_empty() { "" } else { "/" };
        format!("{scheme}://{host}{port}/{path}{slash}")
    }

    /// The value of a text key.
    pub fn text(&self, key: Key) -> Option<String> {
        self.values.text(key).map(str::to_owned)
    }

    /// The value of a flag key.
    pub fn flag(&self, key: Key) -> Option<bool> {
        match self.values.0.get(key.name) {
            Some(Value::Flag(flag)) => Some(*flag),
            _ => None,
        }
    }

    /// The entries of a table key.
    pub fn texts(&self, key: Key) -> Vec<(String, String)> {
        match self.values.0.get(key.name) {
            Some(Value::Texts(texts)) => texts.iter().map(|(name, text)| (name.clone(), text.clone())).collect(),
            _ => Vec::new(),
        }
    }

    /// The file named by a key: relative to mirrors.toml, or to the home directory if it begins with `~/`.
    pub fn file(&self, key: Key) -> Option<PathBuf> {
        let name = self.values.text(key)?;
        let home = name.strip_prefix("~/").and_then(|rest| Some(PathBuf::from(std::env::var_os("HOME")?).join(rest)));
        Some(home.unwrap_or_else(|| self.relative_to.join(name)))
    }

    /// The value of the environment variable named by a key.
    ///
    /// # Errors
    /// The variable is not set.
    pub fn variable(&self, key: Key) -> Result<Option<Secret>, Error> {
        let Some(name) = self.values.text(key) else { return Ok(None) };
        let value = std::env::var(name).ok().filter(|value| !value.is_empty());
        value.map(|value| Some(Secret::new(value))).ok_or_else(|| {
            self.usage(format!("{}: the environment variable {name} is not set", key.name))
                .hint(format!("export {name}=... before the command"))
        })
    }

    /// The password, from the source named by `password-env` or `password-file`.
    ///
    /// # Errors
    /// Both are given, or the password is missing or readable by others.
    pub fn password(&self) -> Result<Option<Secret>, Error> {
        match (self.values.text(PASSWORD_ENV), self.file(PASSWORD_FILE)) {
            (Some(_), Some(_)) => Err(self.usage("password-env or password-file, not both")),
            (Some(_), None) => self.variable(PASSWORD_ENV),
            (None, Some(file)) => password_in(&file).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// An error in this mirror's configuration.
    pub fn usage(&self, message: impl fmt::Display) -> Error {
        Error::usage(format!("mirror {}: {message}", self.mirror))
    }
}

fn password_in(file: &Path) -> Result<Secret, Error> {
    let meta = fs::metadata(file).map_err(|e| Error::io(file, &e))?;
    if !meta.is_file() || meta.len() > PASSWORD_MAX_BYTES {
        return Err(Error::local(format!("{}: not a password file", file.display())));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        let error = Error::local(format!("{}: others can read this password", file.display()));
        return Err(error.hint(format!("chmod 600 {}", file.display())));
    }
    let text = fs::read_to_string(file).map_err(|e| Error::io(file, &e))?;
    Ok(Secret::new(text.lines().next().unwrap_or_default()))
}
