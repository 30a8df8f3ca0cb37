//! A mirror on an ssh server, by SFTP (version 3); needs no program on either machine.
//!
//! Objects are written under `.hfl-tmp/` and renamed into place. Of two writers to one path only one gets "created",
//! provided the server's rename never replaces a file: OpenSSH's does not, some others do. A replacement is synced to
//! the server's disk before the rename, if the server supports fsync. New objects are not synced, and the barrier
//! guarantees nothing.

mod connect;
mod directories;
mod download;
mod failure;
mod known_hosts;
mod listing;
mod login;
mod pending;
mod pool;
mod protocol;
mod session;
mod stream;
mod upload;
mod wire;

pub use protocol::PROTOCOL;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use self::directories::Directories;
use self::failure::{Failure, NO_SUCH_FILE};
use self::pool::Pool;
use self::wire::{REMOVE, Reply, Request};
use super::{Entry, Exclusive, Fetch, Freshness, Put, Store, StoreError, StoreErrorKind, Swap};
use crate::format::layout::{RepoPath, TEMPORARY};
use crate::store::Secret;

/// Location of a mirror and how to log in.
#[derive(Debug, Clone, Default)]
pub struct SftpConfig {
    /// Host name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port; default 22.
    pub port: Option<u16>,
    /// User name; default the local user.
    pub user: Option<String>,
    /// Base path: absolute, or `~`, `~/x` or empty for the home directory or a path below it.
    pub path: String,
    /// File of the only key to try; default the keys in `~/.ssh` and of the ssh agent.
    pub identity: Option<PathBuf>,
    /// Decrypts an encrypted key; otherwise used to log in if no key is accepted.
    pub password: Option<Secret>,
    /// File of known host keys; default `~/.ssh/known_hosts`.
    pub known_hosts: Option<PathBuf>,
}

/// A directory on an SFTP server as a store.
#[derive(Debug, Clone)]
pub struct Sftp(Arc<Inner>);

/// User for the login, and location for messages.
#[derive(Debug)]
struct Place {
    user: String,
    location: String,
}

#[derive(Debug)]
struct Inner {
    pool: Pool,
    /// The base in requests: absolute, or relative to the home directory.
    base: String,
    directories: Directories,
    token: u64,
    temporaries: AtomicU64,
}

impl Sftp {
    /// The store for `config`. Connections are made when first needed.
    ///
    /// # Errors
    /// A path neither absolute nor below the home directory, or no user name in `config` or the environment.
    pub fn open(config: SftpConfig) -> Result<Self, StoreError> {
        let wrong = |why: &str| StoreError::whole(&format!("sftp://{}", config.host), StoreErrorKind::Other, why);
        let path = config.path.trim_end_matches('/');
        let base = match path.strip_prefix('~') {
            _ if config.path.starts_with('/') => path.to_owned(),
            None if path.is_empty() => ".".to_owned(),
            Some("") => ".".to_owned(),
            Some(below) if below.starts_with('/') => format!(".{below}"),
            _ => return Err(wrong("the path is neither absolute nor begins with ~/")),
        };
        let user = config.user.clone().or_else(local_user).ok_or_else(|| wrong("no user is named to log in as"))?;
        let location = location(&config, &user, path);
        let pool = Pool::new(config, Place { user, location });
        let (directories, token, temporaries) = (Directories::default(), rand::random(), AtomicU64::new(0));
        Ok(Self(Arc::new(Inner { pool, base, directories, token, temporaries })))
    }

    fn at(&self, path: &RepoPath) -> impl Fn(Failure) -> StoreError {
        move |failure| failure.at(self.location(), path)
    }

    fn path(&self, path: &RepoPath) -> String {
        self.0.full_path(path.as_str())
    }
}

impl Inner {
    /// The full path in requests of a path below the base.
    fn full_path(&self, path: &str) -> String {
        if path.is_empty() { self.base.clone() } else { format!("{}/{path}", self.base) }
    }

    /// A unique path for a temporary file.
    fn temporary(&self) -> String {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        format!("{}/{TEMPORARY}/{:016x}-{number}", self.base, self.token)
    }

    async fn create(&self, target: &str, bytes: &Bytes, durable: bool) -> Result<Put, Failure> {
        let temporary = self.upload(target, bytes, durable).await?;
        self.place_new(temporary, target).await
    }

    async fn replace(&self, target: &str, bytes: &Bytes) -> Result<(), Failure> {
        let temporary = self.upload(target, bytes, true).await?;
        self.place(temporary, target).await
    }

    async fn swap(&self, target: &str, old: Option<&[u8]>, new: &Bytes) -> Result<Swap, Failure> {
        let Some(old) = old else {
            // Checked first, as some servers' rename replaces an existing file.
            if self.stat(target).await?.is_some() {
                return Ok(Swap::Changed);
            }
            let missing = Failure::Status { code: NO_SUCH_FILE, text: String::new() };
            if let failure @ Failure::Nonsense(_) = self.explained(target, missing).await? {
                return Err(failure);
            }
            let created = self.create(target, new, true).await? == Put::Created;
            return Ok(if created { Swap::Done } else { Swap::Changed });
        };
        match self.download(target, old.len() as u64).await {
            Ok(found) if found == old => self.replace(target, new).await.map(|()| Swap::Done),
            Ok(_) | Err(Failure::TooLong(_)) => Ok(Swap::Changed),
            Err(failure) if failure.is_status(NO_SUCH_FILE) => Ok(Swap::Changed),
            Err(failure) => Err(failure),
        }
    }

    async fn remove(&self, target: &str) -> Result<(), Failure> {
        let lease = self.pool.lease().await?;
        match lease.ask(Request::new(REMOVE).bytes(target.as_bytes())).await? {
            Reply::Status { code: 0 | NO_SUCH_FILE, .. } => Ok(()),
            other => Err(Failure::unexpected(other)),
        }
    }
}

/// Name of the local user.
fn local_user() -> Option<String> {
    let named =
        ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    let root = || rustix::process::getuid().is_root().then(|| "root".to_owned());
    named.or_else(root)
}

fn location(config: &SftpConfig, user: &str, path: &str) -> String {
    let host = if config.host.contains(':') { format!("[{}]", config.host) } else { config.host.clone() };
    let port = config.port.map(|port| format!(":{port}")).unwrap_or_default();
    let path = if path.is_empty() && !config.path.starts_with('/') { "~" } else { path };
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("sftp://{user}@{host}{port}{slash}{path}")
}

#[async_trait]
impl Fetch for Sftp {
    async fn get_with(&self, path: &RepoPath, max_bytes: u64, _: Freshness) -> Result<Bytes, StoreError> {
        let at = self.path(path);
        let failure = match self.0.download(&at, max_bytes).await {
            Ok(bytes) => return Ok(bytes),
            // For immutable objects the cause does not matter: the caller tries another mirror.
            Err(failure) if path.is_immutable() => failure,
            Err(failure) => self.0.explained(&at, failure).await.map_err(self.at(path))?,
        };
        Err(self.at(path)(failure))
    }

    fn location(&self) -> &str {
        &self.0.pool.place().location
    }
}

#[async_trait]
impl Store for Sftp {
    async fn put_new(&self, path: &RepoPath, bytes: Bytes) -> Result<Put, StoreError> {
        self.0.create(&self.path(path), &bytes, false).await.map_err(self.at(path))
    }

    async fn put_replace(&self, path: &RepoPath, bytes: Bytes) -> Result<(), StoreError> {
        self.0.replace(&self.path(path), &bytes).await.map_err(self.at(path))
    }

    async fn swap(&self, path: &RepoPath, old: Option<&[u8]>, new: Bytes) -> Result<Swap, StoreError> {
        self.0.swap(&self.path(path), old, &new).await.map_err(self.at(path))
    }

    async fn size(&self, path: &RepoPath) -> Result<Option<u64>, StoreError> {
        let found = self.0.stat(&self.path(path)).await.map_err(self.at(path))?;
        Ok(found.filter(|found| found.is_file()).and_then(|found| found.bytes))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.0.walk(prefix).await.map_err(|failure| failure.whole(&format!("{}/{prefix}", self.location())))
    }

    async fn delete(&self, path: &RepoPath) -> Result<(), StoreError> {
        self.0.remove(&self.path(path)).await.map_err(self.at(path))
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        let temporaries = self.0.full_path(TEMPORARY);
        let swept = self.0.remove_temporaries(&temporaries).await;
        swept.map_err(|failure| failure.whole(&format!("{}/{TEMPORARY}", self.location())))
    }

    /// The protocol's rename refuses to replace a file; whether the server's does must be tested.
    fn exclusive(&self) -> Exclusive {
        Exclusive::Claimed
    }

    fn jobs(&self) -> usize {
        64
    }
}
