//! From a table of mirrors.toml to the store that it describes: the driver, its secrets, its limits, its retries.
//!
//! Secrets come from environment variables or files that nobody else may read, and go straight into the driver.

#![cfg_attr(
    not(all(feature = "s3", feature = "webdav", feature = "sftp", feature = "ftp", feature = "rsync")),
    allow(dead_code, unused_imports, reason = "each protocol uses a part of it")
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;

use crate::config::{Access, Mirror, Mirrors, Remote, Scheme, Secret, WritePlace};
use crate::error::{Error, ErrorKind};
use crate::store::directory::Directory;
use crate::store::http::{Http, HttpClient};
use crate::store::{Fetch, Store, cache_mark};
use crate::system::child;

/// The largest password file, in bytes.
const PASSWORD_MAX_BYTES: u64 = 4096;

/// Keeps the variables that mirrors.toml names from the programs that are started: the secrets of one mirror are no business
/// of another one's.
pub fn keep_secrets_back(mirrors: &Mirrors) {
    for Access { access_key_env, secret_key_env, session_token_env, password_env, .. } in
        mirrors.mirrors.iter().map(|mirror| &mirror.access)
    {
        let named = [access_key_env, secret_key_env, session_token_env, password_env];
        named.into_iter().flatten().for_each(|name| child::keep_back(name));
    }
}

/// Opens the places that mirrors.toml names. A simulation has its own.
#[async_trait]
pub trait Connect: Send + Sync + std::fmt::Debug {
    /// The store that a mirror is written to, without retries.
    ///
    /// # Errors
    /// A protocol that was left out of this hfl; a secret that is not where it should be.
    async fn store(&self, config: &Mirror, relative_to: &Path) -> Result<Arc<dyn Store>, Error>;

    /// Where clients read a mirror, if the publisher can read there, too.
    ///
    /// # Errors
    /// When HTTP cannot be set up.
    fn public(&self, config: &Mirror) -> Result<Option<Arc<dyn Fetch>>, Error>;
}

/// The drivers of this hfl.
#[derive(Debug, Default)]
pub struct Drivers {
    http: OnceLock<HttpClient>,
}

#[async_trait]
impl Connect for Drivers {
    async fn store(&self, config: &Mirror, relative_to: &Path) -> Result<Arc<dyn Store>, Error> {
        Ok(match &config.write {
            WritePlace::Directory(path) => Arc::new(Directory::new(relative_to.join(path))),
            WritePlace::Remote(remote) => {
                Place { config, remote, access: &config.access, relative_to }.driver().await?
            }
        })
    }

    fn public(&self, config: &Mirror) -> Result<Option<Arc<dyn Fetch>>, Error> {
        let Some(url) = config.read.clone().filter(|_| config.read_back) else { return Ok(None) };
        let client = match self.http.get() {
            Some(client) => client.clone(),
            None => {
                let new = HttpClient::new()?;
                self.http.get_or_init(|| new).clone()
            }
        };
        Ok(Some(Arc::new(Http::new(client, url))))
    }
}

/// The files of a cache are removed at any time: it is no place to publish to.
///
/// # Errors
/// A directory that carries the mark of a cache.
pub fn refuse_cache(config: &Mirror, relative_to: &Path) -> Result<(), Error> {
    let WritePlace::Directory(path) = &config.write else { return Ok(()) };
    let path = &relative_to.join(path);
    if !cache_mark::is_marked(path).map_err(|e| Error::io(path, &e))? {
        return Ok(());
    }
    let why = format!("mirror {}: {} is a cache of hfl-mount, no mirror", config.name, path.display());
    Err(Error::local(why).hint("its files are removed at any time (CACHEDIR.TAG); name another directory"))
}

/// A place on another machine, and all that mirrors.toml says of it.
struct Place<'a> {
    config: &'a Mirror,
    remote: &'a Remote,
    access: &'a Access,
    relative_to: &'a Path,
}

impl Place<'_> {
    async fn driver(&self) -> Result<Arc<dyn Store>, Error> {
        match self.remote.scheme {
            #[cfg(feature = "s3")]
            Scheme::S3 => self.s3().await,
            #[cfg(feature = "webdav")]
            Scheme::WebDavHttp => self.webdav("http"),
            #[cfg(feature = "webdav")]
            Scheme::WebDavHttps => self.webdav("https"),
            #[cfg(feature = "sftp")]
            Scheme::Sftp => self.sftp(),
            #[cfg(feature = "ftp")]
            Scheme::Ftp | Scheme::Ftps => self.ftp(),
            #[cfg(feature = "rsync")]
            Scheme::Rsync => self.rsync(),
            #[allow(unreachable_patterns, reason = "with every driver there is no other protocol")]
            scheme => Err(self.error(ErrorKind::Usage, format!("this hfl was built without {scheme}://"))),
        }
    }

    #[cfg(feature = "s3")]
    async fn s3(&self) -> Result<Arc<dyn Store>, Error> {
        use crate::store::s3::{S3, S3Config, S3Keys};
        let access = self.access;
        let credentials = match (&access.access_key_env, &access.secret_key_env) {
            (Some(key), Some(secret)) => Some(S3Keys {
                access_key: self.variable("access-key-env", key)?,
                secret_key: Secret::new(self.variable("secret-key-env", secret)?),
                session_token: match &access.session_token_env {
                    Some(token) => Some(Secret::new(self.variable("session-token-env", token)?)),
                    None => None,
                },
            }),
            (None, None) => None,
            _ => return Err(self.error(ErrorKind::Usage, "access-key-env and secret-key-env go together")),
        };
        let config = S3Config {
            bucket: self.remote.host.clone(),
            prefix: self.remote.path.clone(),
            endpoint: access.endpoint.clone(),
            region: access.region.clone(),
            path_style: access.path_style.unwrap_or(access.endpoint.is_some()),
            storage_class: access.storage_class.clone(),
            cache_control: access.cache_control.clone(),
            head_cache_control: access.head_cache_control.clone(),
            credentials,
            ca_file: self.file(&access.ca_file),
        };
        Ok(Arc::new(S3::open(config).await.map_err(|e| self.refused(e))?))
    }

    #[cfg(feature = "webdav")]
    fn webdav(&self, scheme: &str) -> Result<Arc<dyn Store>, Error> {
        use crate::store::webdav::{WebDav, WebDavConfig};
        let headers = self.access.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let config = WebDavConfig {
            url: self.url(scheme),
            user: self.remote.user.clone(),
            password: self.password()?,
            ca_file: self.file(&self.access.ca_file),
            headers,
        };
        Ok(Arc::new(WebDav::open(config).map_err(|e| self.refused(e))?))
    }

    #[cfg(feature = "sftp")]
    fn sftp(&self) -> Result<Arc<dyn Store>, Error> {
        use crate::store::sftp::{Sftp, SftpConfig};
        let config = SftpConfig {
            host: self.remote.host.clone(),
            port: self.remote.port,
            user: self.remote.user.clone(),
            path: self.absolute_path(),
            identity: self.file(&self.access.identity),
            password: self.password()?,
            known_hosts: self.file(&self.access.known_hosts),
        };
        Ok(Arc::new(Sftp::open(config).map_err(|e| self.refused(e))?))
    }

    #[cfg(feature = "ftp")]
    fn ftp(&self) -> Result<Arc<dyn Store>, Error> {
        use crate::store::ftp::{Ftp, FtpConfig, Tls};
        let tls = match (self.remote.scheme, self.remote.port) {
            (Scheme::Ftp, _) => Tls::None,
            (_, Some(990)) => Tls::Implicit,
            _ => Tls::Explicit,
        };
        let config = FtpConfig {
            host: self.remote.host.clone(),
            port: self.remote.port,
            user: self.remote.user.clone(),
            path: self.remote.path.clone(),
            password: self.password()?,
            tls,
            ca_file: self.file(&self.access.ca_file),
        };
        Ok(Arc::new(Ftp::open(config).map_err(|e| self.refused(e))?))
    }

    #[cfg(feature = "rsync")]
    fn rsync(&self) -> Result<Arc<dyn Store>, Error> {
        use crate::store::rsync::{Rsync, RsyncConfig};
        let config = RsyncConfig {
            host: self.remote.host.clone(),
            port: self.remote.port,
            user: self.remote.user.clone(),
            path: self.absolute_path(),
            identity: self.file(&self.access.identity),
            known_hosts: self.file(&self.access.known_hosts),
        };
        Ok(Arc::new(Rsync::open(config).map_err(|e| self.refused(e))?))
    }

    /// The path on the host: absolute, unless it begins with `~/`, for the home directory.
    fn absolute_path(&self) -> String {
        let path = &self.remote.path;
        if path == "~" || path.starts_with("~/") { path.clone() } else { format!("/{path}") }
    }

    /// The base URL, without the user.
    fn url(&self, scheme: &str) -> String {
        let Remote { host, port, path, .. } = self.remote;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let slash = if path.is_empty() { "" } else { "/" };
        format!("{scheme}://{host}{port}/{path}{slash}")
    }

    /// A file that mirrors.toml names: relative to it, or to the home directory.
    fn file(&self, name: &Option<String>) -> Option<PathBuf> {
        let name = name.as_ref()?;
        let home = name.strip_prefix("~/").and_then(|rest| Some(PathBuf::from(std::env::var_os("HOME")?).join(rest)));
        Some(home.unwrap_or_else(|| self.relative_to.join(name)))
    }

    fn password(&self) -> Result<Option<Secret>, Error> {
        match (&self.access.password_env, self.file(&self.access.password_file)) {
            (Some(_), Some(_)) => Err(self.error(ErrorKind::Usage, "password-env or password-file, not both")),
            (Some(name), None) => Ok(Some(Secret::new(self.variable("password-env", name)?))),
            (None, Some(file)) => self.password_file(&file).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn password_file(&self, file: &Path) -> Result<Secret, Error> {
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

    fn variable(&self, key: &str, name: &str) -> Result<String, Error> {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty());
        value.ok_or_else(|| {
            let message = format!("{key}: the environment variable {name} is not set");
            self.error(ErrorKind::Usage, message).hint(format!("export {name}=... before the command"))
        })
    }

    fn refused(&self, error: crate::store::StoreError) -> Error {
        self.error(ErrorKind::Usage, error.to_string())
    }

    fn error(&self, kind: ErrorKind, message: impl std::fmt::Display) -> Error {
        Error::new(kind, format!("mirror {}: {message}", self.config.name))
    }
}
