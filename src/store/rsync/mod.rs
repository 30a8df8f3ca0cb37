//! A mirror written with rsync over ssh, by the local programs `rsync` and `ssh`.
//!
//! Starting both for every object would be far too slow. So requests are queued in a [`lane::Lane`] while others are in
//! progress, and one rsync transfers the whole batch. Only rsync runs on the host, so the account can be restricted to
//! it (`rrsync`). Both programs run non-interactively: no password prompt, no unknown host key.
//!
//! rsync writes every object to a hidden temporary file beside it and renames it, so objects appear atomically. It
//! checks before it writes, so two publishers that write within the same request may both get "created", and
//! [`Store::swap`] detects only changes made before it began. The lock object is what excludes other publishers. No
//! option known to all versions of rsync syncs to the disk: [`Store::barrier`] guarantees nothing here.

mod failure;
mod host;
mod lane;
mod listing;
mod private;
mod protocol;
mod pull;
mod push;
mod run;

pub use protocol::PROTOCOL;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinSet;

use self::host::Host;
use self::lane::{Batch, Lane};
use self::pull::{Get, Size};
use self::push::{Delete, New, Replace};
use super::{Entry, Exclusive, Fetch, Freshness, Put, Store, StoreError, StoreErrorKind, Swap};
use crate::format::layout::RepoPath;

/// Maximum size of an object that [`Store::swap`] compares, in bytes.
const SWAP_MAX_BYTES: u64 = 64 << 20;

/// Location of a mirror and how to reach its host.
#[derive(Debug, Clone, Default)]
pub struct RsyncConfig {
    /// Host name, address (IPv6 without brackets), or an alias of the user's ssh configuration.
    pub host: String,
    /// Port of the ssh server; default as configured for ssh.
    pub port: Option<u16>,
    /// User name; default as configured for ssh.
    pub user: Option<String>,
    /// Directory on the host: an absolute path, `~/path`, or empty for the home directory.
    pub path: String,
    /// File of the secret key, the only key then tried.
    pub identity: Option<PathBuf>,
    /// File of known host keys, in place of the user's own.
    pub known_hosts: Option<PathBuf>,
}

/// A directory on another machine as a store.
#[derive(Debug)]
pub struct Rsync {
    host: Arc<Host>,
    new: Arc<Lane<New>>,
    replace: Arc<Lane<Replace>>,
    get: Arc<Lane<Get>>,
    size: Arc<Lane<Size>>,
    delete: Arc<Lane<Delete>>,
    /// The worker tasks; they and their child processes end with the store.
    tasks: Mutex<JoinSet<()>>,
}

impl Rsync {
    /// The store for `config`; the host is not contacted yet.
    ///
    /// # Errors
    /// `rsync` or `ssh` is not installed, or a value in `config` cannot be passed to them safely.
    pub fn open(config: RsyncConfig) -> Result<Self, StoreError> {
        let host = Arc::new(Host::new(&config)?);
        Ok(Self {
            host,
            new: Arc::default(),
            replace: Arc::default(),
            get: Arc::default(),
            size: Arc::default(),
            delete: Arc::default(),
            tasks: Mutex::default(),
        })
    }

    /// Queues a request in its lane, starts a worker if needed, and waits for the result.
    async fn ask<B: Batch>(&self, lane: &Arc<Lane<B>>, path: &RepoPath, input: B::In) -> Result<B::Out, StoreError> {
        let (pending, wanted) = lane.push(path.clone(), input);
        if wanted && let Ok(mut tasks) = self.tasks.lock() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(Lane::work(Arc::clone(lane), Arc::clone(&self.host)));
        }
        let stopped = || StoreError::at(self.location(), path, StoreErrorKind::Other, "the transfer was given up");
        pending.answer().await.ok_or_else(stopped)?
    }
}

#[async_trait]
impl Fetch for Rsync {
    async fn get_with(&self, path: &RepoPath, max_bytes: u64, _: Freshness) -> Result<Bytes, StoreError> {
        self.ask(&self.get, path, max_bytes).await
    }

    fn location(&self) -> &str {
        &self.host.location
    }
}

#[async_trait]
impl Store for Rsync {
    async fn put_new(&self, path: &RepoPath, bytes: Bytes) -> Result<Put, StoreError> {
        self.ask(&self.new, path, bytes).await
    }

    async fn put_replace(&self, path: &RepoPath, bytes: Bytes) -> Result<(), StoreError> {
        self.ask(&self.replace, path, bytes).await
    }

    async fn swap(&self, path: &RepoPath, old: Option<&[u8]>, new: Bytes) -> Result<Swap, StoreError> {
        let found = match self.get(path, SWAP_MAX_BYTES).await {
            Ok(bytes) => Some(bytes),
            Err(e) if e.kind() == StoreErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        if found.as_deref() != old {
            return Ok(Swap::Changed);
        }
        if old.is_some() {
            return self.put_replace(path, new).await.map(|()| Swap::Done);
        }
        Ok(match self.put_new(path, new).await? {
            Put::Created => Swap::Done,
            Put::Exists => Swap::Changed,
        })
    }

    async fn size(&self, path: &RepoPath) -> Result<Option<u64>, StoreError> {
        self.ask(&self.size, path, ()).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let listed = listing::list(&self.host, prefix).await;
        listed.map_err(|failure| failure.whole(self.location()))
    }

    async fn delete(&self, path: &RepoPath) -> Result<(), StoreError> {
        self.ask(&self.delete, path, ()).await
    }

    /// rsync removes its temporaries itself, unless it is killed.
    async fn sweep(&self) -> Result<(), StoreError> {
        let swept = listing::sweep(&self.host).await;
        swept.map_err(|failure| failure.whole(self.location()))
    }

    fn exclusive(&self) -> Exclusive {
        Exclusive::CheckThenWrite
    }

    /// Enough to give every slot a full batch.
    fn jobs(&self) -> usize {
        lane::BATCH_OBJECTS * host::TURNS
    }
}
