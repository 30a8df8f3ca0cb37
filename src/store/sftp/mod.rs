//! A mirror on a machine with an ssh server, by SFTP (version 3), without any program of that machine or this one.
//!
//! Objects are written under `.hfl-tmp/` and renamed into place. Of two writers at one path one is told that it made
//! the object, so far as the server's rename keeps what is there: OpenSSH's does, not every one's. A replacement is
//! brought to the server's disk before it takes its place, where the server can do that; for what is only created
//! there is nothing more to ask of SFTP, and the barrier promises nothing.

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
use crate::format::layout::RepoPath;
use crate::store::Secret;

/// Where objects are written before they are moved into place; hidden, and swept by whoever holds the lock.
const TEMPORARY: &str = ".hfl-tmp";

/// Where a mirror is and how to log in there.
#[derive(Debug, Clone, Default)]
pub struct SftpConfig {
    /// A name or an address; an IPv6 address without brackets.
    pub host: String,
    /// 22 where there is none.
    pub port: Option<u16>,
    /// The name of the local user where there is none.
    pub user: Option<String>,
    /// The base: absolute, or `~` or `~/x` or nothing for the home directory and what is below it.
    pub path: String,
    /// The file of the only key to log in with; without it those in `~/.ssh` and of the ssh agent are tried.
    pub identity: Option<PathBuf>,
    /// Opens the key where that is encrypted, and logs in where keys do not.
    pub password: Option<Secret>,
    /// The file of known host keys; `~/.ssh/known_hosts` where there is none.
    pub known_hosts: Option<PathBuf>,
}

/// A directory on an SFTP server as a store.
#[derive(Debug, Clone)]
pub struct Sftp(Arc<Inner>);

/// Who and where, for messages and for the login.
#[derive(Debug)]
struct Place {
    user: String,
    location: String,
}

#[derive(Debug)]
struct Inner {
    pool: Pool,
    /// The base as the server is told it: absolute, or relative to the home directory.
    base: String,
    directories: Directories,
    token: u64,
    temporaries: AtomicU64,
}

impl Sftp {
    /// The store that `config` describes. Connections are made when they are first needed.
    ///
    /// # Errors
    /// A path that is neither absolute nor below the home directory, and a user that is not named anywhere.
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
    /// A path below the base as the server is told it.
    fn full_path(&self, path: &str) -> String {
        if path.is_empty() { self.base.clone() } else { format!("{}/{path}", self.base) }
    }

    /// A path for a file that nobody else writes.
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
            // Asked first, as the rename of a lax server replaces what is there.
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

/// Who runs this.
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
            // What never changes needs no second question: whoever misses it asks elsewhere.
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

    /// The protocol has a rename that refuses to replace; whether a server's does has to be tried.
    fn exclusive(&self) -> Exclusive {
        Exclusive::Claimed
    }

    fn jobs(&self) -> usize {
        64
    }
}
