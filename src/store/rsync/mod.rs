//! A mirror that is written with rsync over ssh, by the programs `rsync` and `ssh` of this machine.
//!
//! Starting both for every object would be far too slow, so requests wait in a [`lane::Lane`] while others are under
//! way, and one rsync carries all that has gathered. Nothing but rsync runs on the host, so the account may be
//! restricted to it (`rrsync`). Both programs are told what to do, never asked: no password, no unknown host key.
//!
//! rsync writes every object to a hidden temporary beside it and renames it, so objects appear whole. It looks before
//! it writes, so of two publishers that meet within one request both may be told that they made an object, and
//! [`Store::swap`] keeps out only what was there when it began; the lock object is what keeps publishers apart. rsync
//! has no way, known to all of its versions, to ask for the disk: [`Store::barrier`] promises nothing here.

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

/// The largest object that is compared before it is replaced.
const SWAP_MAX_BYTES: u64 = 64 << 20;

/// Where a mirror lies and how its host is reached.
#[derive(Debug, Clone, Default)]
pub struct RsyncConfig {
    /// The host: a name, an address (IPv6 without brackets), or an alias of the user's ssh configuration.
    pub host: String,
    /// The port of its ssh server; ssh's own choice where there is none.
    pub port: Option<u16>,
    /// The account; ssh's own choice where there is none.
    pub user: Option<String>,
    /// The directory on the host: an absolute path, `~/path`, or empty for the home directory.
    pub path: String,
    /// The file of the secret key; then no other key is tried.
    pub identity: Option<PathBuf>,
    /// The file of known host keys, in place of the user's own.
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
    /// The workers; dropped with the store, and their programs with them.
    tasks: Mutex<JoinSet<()>>,
}

impl Rsync {
    /// The store that `config` describes; nothing is asked of the host yet.
    ///
    /// # Errors
    /// `rsync` or `ssh` is not installed, or something in `config` cannot be passed on to them safely.
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

    /// Puts a request into its lane, sees to it that somebody works there, and waits for the answer.
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

    /// rsync removes its temporaries itself, unless it was killed.
    async fn sweep(&self) -> Result<(), StoreError> {
        let swept = listing::sweep(&self.host).await;
        swept.map_err(|failure| failure.whole(self.location()))
    }

    fn exclusive(&self) -> Exclusive {
        Exclusive::CheckThenWrite
    }

    /// Enough for every turn to have a full batch.
    fn jobs(&self) -> usize {
        lane::BATCH_OBJECTS * host::TURNS
    }
}
