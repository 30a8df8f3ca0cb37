//! The mirror that a machine boots from: a small HTTP server on loopback that fetches from the real mirrors, counts, and
//! is as slow as it is told to be.
//!
//! It has what the version that was opened vouches for, and nothing else: its head and its index as they were accepted,
//! the files that the head names, the blocks that the index lists. What is fetched is checked, so a mirror that lags or
//! lies costs the machine nothing while another one is right.
//! Latency is counted for each request and the rate for all of them together; setting up a connection costs nothing, so
//! that a real wire of the same latency is a little slower.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::time::{sleep, sleep_until};

use super::report::Fetched;
use crate::boot::FILE_MAX_BYTES;
use crate::error::Error;
use crate::format::digest::BlockId;
use crate::format::index::{BlockRow, Extent, ExtentSource};
use crate::format::layout::{Kind, RepoPath};
use crate::format::profile::{BLOCKS_MAX, FirstRead, MS_MAX, Profile};
use crate::repo::{self, Opened, ReadError, ReadErrorKind};
use crate::store::{Fetch, Freshness, StoreErrorKind};
use crate::system::bridge::blocking;

/// How slow a mirror is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wire {
    /// Time that each request takes besides.
    pub latency: Duration,
    /// Bytes in a second, all requests together.
    pub rate: Option<u64>,
}

/// A mirror that runs until this is dropped.
pub struct Relay {
    shared: Arc<Shared>,
    address: SocketAddr,
    served: tokio::task::JoinHandle<()>,
}

struct Shared {
    stores: Vec<Arc<dyn Fetch>>,
    /// Which of them gave the last block, and is asked first for the next one.
    good: AtomicUsize,
    opened: Opened,
    blocks: BTreeMap<BlockId, BlockRow>,
    wire: Wire,
    /// When the wire has sent all that was given to it.
    free: Mutex<Option<Instant>>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    fetched: Fetched,
    /// When the first block was asked for.
    since: Option<Instant>,
    /// When something was asked for last.
    last: Option<Instant>,
    known: BTreeSet<BlockId>,
    first: Vec<(BlockId, u64)>,
}

impl Relay {
    /// Starts one on a free port of loopback, for a version that was opened from these stores.
    ///
    /// # Errors
    /// No port.
    pub async fn start(stores: &[Arc<dyn Fetch>], opened: &Opened, wire: Wire) -> Result<Self, Error> {
        let failed = |e| Error::local(format!("cannot listen on loopback: {e}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stores, opened) = (stores.to_vec(), opened.clone());
        let blocks = opened.index.blocks().iter().map(|row| (row.id, *row)).collect();
        let (good, free, seen) = Default::default();
        let shared = Arc::new(Shared { stores, good, opened, blocks, wire, free, seen });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let served = tokio::spawn(async move {
            // It only ends with its task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { shared, address, served })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What was fetched so far.
    pub fn fetched(&self) -> Fetched {
        self.shared.seen().fetched
    }

    /// How long nothing was asked for.
    pub fn idle(&self) -> Duration {
        self.shared.seen().last.map_or(Duration::ZERO, |last| last.elapsed())
    }

    /// The blocks of the version in the order in which they were first asked for. Where the image has a block several
    /// times, its first place is taken.
    ///
    /// # Errors
    /// None for what was asked for.
    pub fn profile(&self) -> Result<Profile, Error> {
        let index = &self.shared.opened.index;
        let mut places = BTreeMap::new();
        let mut at = 0;
        for Extent { bytes, from } in index.extents() {
            if let ExtentSource::Block { block, .. } = from
                && let Some(row) = index.blocks().get(*block as usize)
            {
                places.entry(row.id).or_insert(at);
            }
            at += bytes;
        }
        let first = self.shared.seen().first.clone();
        let row = |(id, ms)| Some(FirstRead { id, ms, offset: *places.get(&id)? });
        let reads = first.into_iter().filter_map(row).collect();
        let header = index.header();
        Profile::new(header.image.clone(), header.version, reads).map_err(|e| Error::local(e.to_string()))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.served.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    let no_cache = headers.get(CACHE_CONTROL).is_some_and(|value| value.as_bytes() == b"no-cache");
    let freshness = if no_cache { Freshness::Confirmed } else { Freshness::Cached };
    let path: Option<RepoPath> = uri.path().strip_prefix('/').and_then(|path| path.parse().ok());
    if let Some(path) = &path {
        shared.seen().note(path);
    }
    sleep(shared.wire.latency).await;
    let found = match &path {
        Some(path) => shared.find(path, freshness).await,
        None => Err(StatusCode::NOT_FOUND),
    };
    match found {
        Ok(bytes) => {
            shared.carry(bytes.len() as u64).await;
            shared.seen().count(path.as_ref(), bytes.len() as u64);
            Response::new(Body::from(bytes))
        }
        Err(status) => {
            shared.seen().fetched.requests += 1;
            shared.seen().fetched.missing += 1;
            status.into_response()
        }
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the machine is given of this path.
    async fn find(&self, path: &RepoPath, freshness: Freshness) -> Result<Bytes, StatusCode> {
        let Opened { head, head_file, row, index, .. } = &self.opened;
        if *path == RepoPath::head(&head.image) {
            return Ok(head_file.clone());
        }
        if *path == row.index_path(&head.image) {
            let index = Arc::clone(index);
            return Ok(blocking(move || index.to_bytes()).await.into());
        }
        let found = if let Some(row) = head.files.iter().find(|row| row.path == *path) {
            repo::file_from(&self.stores, row, FILE_MAX_BYTES).await
        } else if let Kind::Block(id) = path.kind()
            && let Some(row) = self.blocks.get(&id)
        {
            self.block(row, freshness).await
        } else {
            return Err(StatusCode::NOT_FOUND);
        };
        found.map_err(|e| match e.kind() {
            ReadErrorKind::Store(StoreErrorKind::NotFound) => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_GATEWAY,
        })
    }

    /// The file of a block, from a store that has it right.
    async fn block(&self, row: &BlockRow, freshness: Freshness) -> Result<Bytes, ReadError> {
        let first = self.good.load(Ordering::Relaxed);
        let (at, file) = repo::block_from(&self.stores, first, row, freshness).await?;
        self.good.store(at, Ordering::Relaxed);
        Ok(file)
    }

    /// Returns when the wire has sent so many bytes, after all that it was given before.
    async fn carry(&self, bytes: u64) {
        let Some(rate) = self.wire.rate else { return };
        let sent = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = free.unwrap_or_else(Instant::now).max(Instant::now());
            *free.insert(begin + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64))
        };
        sleep_until(sent.into()).await;
    }
}

impl Seen {
    /// Takes note of a request when it comes.
    fn note(&mut self, path: &RepoPath) {
        let now = Instant::now();
        self.last = Some(now);
        let Kind::Block(id) = path.kind() else { return };
        let since = *self.since.get_or_insert(now);
        if (self.first.len() as u64) < BLOCKS_MAX && self.known.insert(id) {
            let ms = u64::try_from(now.duration_since(since).as_millis()).unwrap_or(MS_MAX).min(MS_MAX);
            self.first.push((id, ms));
        }
    }

    /// Counts an answer.
    fn count(&mut self, path: Option<&RepoPath>, bytes: u64) {
        self.fetched.requests += 1;
        self.fetched.bytes += bytes;
        if path.is_some_and(|path| matches!(path.kind(), Kind::Block(_))) {
            self.fetched.blocks += 1;
            self.fetched.block_bytes += bytes;
        }
    }
}
