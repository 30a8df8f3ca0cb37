//! How a mirror is reached: the keys of a `[[mirror]]` table that only some protocols know.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::write::{Scheme, WritePlace};

/// What a `[[mirror]]` table says about its protocol; every key is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Access {
    /// S3: the base URL of a store that is not Amazon's.
    pub endpoint: Option<String>,
    /// S3: the region.
    pub region: Option<String>,
    /// S3: `endpoint/bucket/key` in place of `bucket.endpoint/key`; the default where an endpoint is given.
    pub path_style: Option<bool>,
    /// S3: the storage class of blocks.
    pub storage_class: Option<String>,
    /// S3: `Cache-Control` of what never changes; the default lets caches keep it for ever.
    pub cache_control: Option<String>,
    /// S3: `Cache-Control` of heads, lists and pages; the default is 30 seconds.
    pub head_cache_control: Option<String>,
    /// S3: the environment variable that holds the access key.
    pub access_key_env: Option<String>,
    /// S3: the environment variable that holds the secret key.
    pub secret_key_env: Option<String>,
    /// S3: the environment variable that holds a session token.
    pub session_token_env: Option<String>,
    /// SFTP, rsync: the file of the secret ssh key.
    pub identity: Option<String>,
    /// SFTP, rsync: the file of known host keys.
    pub known_hosts: Option<String>,
    /// SFTP, FTP, WebDAV: the environment variable that holds the password.
    pub password_env: Option<String>,
    /// SFTP, FTP, WebDAV: the file that holds the password; nobody else may read it.
    pub password_file: Option<String>,
    /// S3, WebDAV, FTPS: the certificates (PEM) of a private certificate authority.
    pub ca_file: Option<String>,
    /// WebDAV: further headers of every request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

impl Access {
    /// The first key that this place has no use for.
    pub(super) fn stray_key(&self, place: &WritePlace) -> Option<&'static str> {
        let scheme = match place {
            WritePlace::Directory(_) => None,
            WritePlace::Remote(remote) => Some(remote.scheme),
        };
        let s3 = scheme == Some(Scheme::S3);
        let webdav = matches!(scheme, Some(Scheme::WebDavHttp | Scheme::WebDavHttps));
        let ssh = matches!(scheme, Some(Scheme::Sftp | Scheme::Rsync));
        let ftp = matches!(scheme, Some(Scheme::Ftp | Scheme::Ftps));
        let password = webdav || ftp || scheme == Some(Scheme::Sftp);
        let keys = [
            ("endpoint", self.endpoint.is_some(), s3),
            ("region", self.region.is_some(), s3),
            ("path-style", self.path_style.is_some(), s3),
            ("storage-class", self.storage_class.is_some(), s3),
            ("cache-control", self.cache_control.is_some(), s3),
            ("head-cache-control", self.head_cache_control.is_some(), s3),
            ("access-key-env", self.access_key_env.is_some(), s3),
            ("secret-key-env", self.secret_key_env.is_some(), s3),
            ("session-token-env", self.session_token_env.is_some(), s3),
            ("identity", self.identity.is_some(), ssh),
            ("known-hosts", self.known_hosts.is_some(), ssh),
            ("password-env", self.password_env.is_some(), password),
            ("password-file", self.password_file.is_some(), password),
            ("ca-file", self.ca_file.is_some(), s3 || webdav || ftp),
            ("headers", !self.headers.is_empty(), webdav),
        ];
        keys.iter().find(|(_, given, of_use)| *given && !of_use).map(|(key, ..)| *key)
    }
}
