//! A mirror on an FTP server, with or without TLS: what cheap web hosts offer.
//!
//! Objects are stored under `.hfl-tmp/` and renamed into place only after their size is verified, so a truncated upload
//! never becomes an object. FTP has neither exclusive creation nor compare-and-swap: the driver checks before it
//! writes, and only the publishers' lock excludes concurrent writers. Data connections are passive, binary, and always
//! go to the address of the control connection.

mod answer;
mod config;
mod connect;
mod listing;
mod pool;
mod presence;
mod protocol;
mod session;
mod tls;
mod transfer;
mod tree;
mod write;

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Entry, Exclusive, Fetch, Freshness, Put, Store, StoreError, StoreErrorKind, Swap};
use crate::format::layout::RepoPath;

pub use config::{FtpConfig, Tls};
pub use protocol::PROTOCOL;

use answer::Failure;
use pool::{Lease, Pool};
use tls::Authorities;

/// Maximum number of control connections: about what cheap hosts allow per client address.
const JOBS: usize = 8;
/// Maximum size of an object that [`Store::swap`] compares, in bytes.
const SWAP_MAX_BYTES: u64 = 64 << 20;

/// A mirror on an FTP server.
#[derive(Debug, Clone)]
pub struct Ftp(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: FtpConfig,
    location: String,
    prefix: String,
    authorities: Option<Authorities>,
    pool: Pool,
    /// Distinguishes this run's temporary files from those of others.
    run: u64,
    temporaries: AtomicU64,
    /// The directories created so far.
    made: Mutex<HashSet<String>>,
}

impl Ftp {
    /// The mirror for `config`. Connections are made on demand.
    ///
    /// # Errors
    /// An unusable file of certificates, or a line break in the user, password or path.
    pub fn open(config: FtpConfig) -> Result<Self, StoreError> {
        let (location, prefix) = (config.location(), config.prefix());
        if !config.is_one_line() {
            let why = "a line break in the user, the password or the path";
            return Err(StoreError::whole(&location, StoreErrorKind::Other, why));
        }
        let authorities = match config.tls {
            Tls::None => None,
            Tls::Explicit | Tls::Implicit => Some(Authorities::new(config.ca_file.as_deref())?),
        };
        let (pool, run) = (Pool::new(), rand::random());
        let (temporaries, made) = (AtomicU64::new(0), Mutex::default());
        Ok(Self(Arc::new(Inner { config, location, prefix, authorities, pool, run, temporaries, made })))
    }
}

impl Inner {
    async fn lease(&self) -> Result<Lease<'_>, Failure> {
        self.pool.take(&self.config, self.authorities.as_ref()).await
    }

    fn error(&self, path: &RepoPath, failure: Failure) -> StoreError {
        StoreError::at(&self.location, path, failure.kind, failure.why)
    }

    /// The path on the server of a relative path; `""` is the base itself.
    fn path(&self, relative: &str) -> String {
        match relative {
            "" if self.prefix.len() > 1 => self.prefix.trim_end_matches('/').to_owned(),
            _ => format!("{}{relative}", self.prefix),
        }
    }

    async fn put_new(&self, path: &RepoPath, bytes: &[u8]) -> Result<Put, Failure> {
        let mut session = self.lease().await?;
        if !session.is_free(&self.path(path.as_str())).await? {
            return Ok(Put::Exists);
        }
        self.write(&mut session, path, bytes).await.map(|()| Put::Created)
    }

    async fn swap(&self, path: &RepoPath, old: Option<&[u8]>, new: &[u8]) -> Result<Swap, Failure> {
        let mut session = self.lease().await?;
        let found = match session.retrieve(&self.path(path.as_str()), SWAP_MAX_BYTES).await {
            Ok(bytes) => Some(bytes),
            Err(failure) if failure.kind == StoreErrorKind::NotFound => None,
            Err(failure) => return Err(failure),
        };
        if found.as_deref() != old {
            return Ok(Swap::Changed);
        }
        // Before an unreadable object counts as missing, check in another way that it does not exist.
        if old.is_none() && session.size(&self.path(path.as_str())).await?.is_some() {
            return Err(Failure::new(StoreErrorKind::Denied, "it is there and cannot be read"));
        }
        self.write(&mut session, path, new).await.map(|()| Swap::Done)
    }

    async fn delete(&self, path: &str) -> Result<(), Failure> {
        let mut session = self.lease().await?;
        let answer = session.ask(&format!("DELE {path}")).await?;
        if answer.is_done() {
            return Ok(());
        }
        match session.explained(path, answer.refusal()).await? {
            failure if failure.kind == StoreErrorKind::NotFound => Ok(()),
            _ => Err(answer.refusal()),
        }
    }
}

#[async_trait]
impl Fetch for Ftp {
    async fn get_with(&self, path: &RepoPath, max_bytes: u64, _: Freshness) -> Result<Bytes, StoreError> {
        let fail = |failure| self.0.error(path, failure);
        let mut session = self.0.lease().await.map_err(fail)?;
        session.retrieve(&self.0.path(path.as_str()), max_bytes).await.map_err(fail)
    }

    fn location(&self) -> &str {
        &self.0.location
    }
}

#[async_trait]
impl Store for Ftp {
    async fn put_new(&self, path: &RepoPath, bytes: Bytes) -> Result<Put, StoreError> {
        self.0.put_new(path, &bytes).await.map_err(|failure| self.0.error(path, failure))
    }

    async fn put_replace(&self, path: &RepoPath, bytes: Bytes) -> Result<(), StoreError> {
        let fail = |failure| self.0.error(path, failure);
        let mut session = self.0.lease().await.map_err(fail)?;
        self.0.write(&mut session, path, &bytes).await.map_err(fail)
    }

    /// Compares, then replaces atomically: a reader sees the old bytes or the new ones, but a write between the
    /// comparison and the replacement is lost.
    async fn swap(&self, path: &RepoPath, old: Option<&[u8]>, new: Bytes) -> Result<Swap, StoreError> {
        self.0.swap(path, old, &new).await.map_err(|failure| self.0.error(path, failure))
    }

    async fn size(&self, path: &RepoPath) -> Result<Option<u64>, StoreError> {
        let fail = |failure| self.0.error(path, failure);
        let mut session = self.0.lease().await.map_err(fail)?;
        session.size(&self.0.path(path.as_str())).await.map_err(fail)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let listed = self.0.list(prefix).await;
        listed.map_err(|failure| StoreError::whole(&self.0.location, failure.kind, failure.why))
    }

    async fn delete(&self, path: &RepoPath) -> Result<(), StoreError> {
        self.0.delete(&self.0.path(path.as_str())).await.map_err(|failure| self.0.error(path, failure))
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        let swept = self.0.sweep().await;
        swept.map_err(|failure| StoreError::whole(&self.0.location, failure.kind, failure.why))
    }

    fn exclusive(&self) -> Exclusive {
        Exclusive::CheckThenWrite
    }

    fn jobs(&self) -> usize {
        JOBS
    }
}
