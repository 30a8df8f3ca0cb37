//! Properties of a running WebDAV server that tests need.

use std::path::PathBuf;

use hfl::store::Secret;
use hfl::store::webdav::{WebDav, WebDavConfig};

use super::Daemon;

pub const USER: &str = "hfl";
pub const PASSWORD: &str = "pw-of-the-test";
/// The environment variable named in the tables of mirrors.toml.
const PASSWORD_ENV: &str = "HFL_TEST_DAV_PASSWORD";

/// A server with one user, stopped on drop.
pub struct WebDavServer {
    pub daemon: Daemon,
    /// Base URL, with a trailing slash and without the user.
    pub url: String,
    /// Public URL of the same tree, with a trailing slash. Empty if the server does not provide one.
    pub public_url: String,
    /// The tree on disk.
    pub root: PathBuf,
    pub user: &'static str,
    pub password: &'static str,
    /// The authority that signed the server's certificate, with TLS.
    pub ca_file: Option<PathBuf>,
    pub directory: tempfile::TempDir,
}

impl WebDavServer {
    pub fn config(&self) -> WebDavConfig {
        WebDavConfig {
            url: self.url.clone(),
            user: Some(self.user.into()),
            password: Some(Secret::new(self.password)),
            ca_file: self.ca_file.clone(),
            headers: Vec::new(),
        }
    }

    pub fn store(&self) -> WebDav {
        WebDav::open(self.config()).expect("a store")
    }

    /// A table for mirrors.toml that writes to this server; needs [`WebDavServer::environment`].
    pub fn table(&self, name: &str) -> String {
        let write = self.url.replacen("://", &format!("://{}@", self.user), 1);
        let read = if self.public_url.is_empty() { String::new() } else { format!("read = \"{}\"\n", self.public_url) };
        let ca = self.ca_file.as_ref().map(|file| format!("ca-file = \"{}\"\n", file.display())).unwrap_or_default();
        format!(
            "[[mirror]]\nname = \"{name}\"\nwrite = \"webdav+{write}\"\n{read}password-env = \"{PASSWORD_ENV}\"\n{ca}"
        )
    }

    /// The environment variable with the password.
    pub fn environment(&self) -> (&'static str, &'static str) {
        (PASSWORD_ENV, self.password)
    }
}
