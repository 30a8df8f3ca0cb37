//! The mirror that a machine boots from: an HTTP relay on loopback that fetches from the real mirrors, counts
//! requests, and simulates a slow network.
//!
//! It serves only what belongs to the opened version: its head and index as they were accepted, the files named by
//! the head, and the blocks listed in the index. Fetched data is verified, so a stale or faulty mirror does no harm
//! while another one is intact.
//!
//! Latency applies to each request, the rate to all requests together. Connection setup has no added latency, so a real
//! network of the same latency is a little slower.

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
use crate::format::block::BlockRow;
use crate::format::digest::BlockId;
use crate::format::index::{Extent, ExtentSource};
use crate::format::layout::{Kind, RepoPath};
use crate::format::profile::{BLOCKS_MAX, FirstRead, MS_MAX, Profile};
use crate::repo::{self, Opened, ReadError, ReadErrorKind};
use crate::store::{Fetch, Freshness, StoreErrorKind};
use crate::system::bridge::blocking;

/// Simulated network.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wire {
    /// Added latency per request.
    pub latency: Duration,
    /// Bytes per second over all requests; `None` for no limit.
    pub rate: Option<u64>,
}

/// A running relay; stopped on drop.
pub struct Relay {
    shared: Arc<Shared>,
    address: SocketAddr,
    served: tokio::task::JoinHandle<()>,
}

struct Shared {
    stores: Vec<Arc<dyn Fetch>>,
    /// Index of the store that served the last block; tried first for the next one.
    good: AtomicUsize,
    opened: Opened,
    blocks: BTreeMap<BlockId, BlockRow>,
    wire: Wire,
    /// When the simulated network has sent everything queued so far.
    free: Mutex<Option<Instant>>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    fetched: Fetched,
    /// Time of the first block request.
    since: Option<Instant>,
    /// Time of the last request.
    last: Option<Instant>,
    known: BTreeSet<BlockId>,
    first: Vec<(BlockId, u64)>,
}

impl Relay {
    /// Starts a relay on a free loopback port, for a version opened from these stores.
    ///
    /// # Errors
    /// No port could be opened.
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
            // Runs until its task is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { shared, address, served })
    }

    /// Listening port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Request statistics so far.
    pub fn fetched(&self) -> Fetched {
        self.shared.seen().fetched
    }

    /// Time since the last request.
    pub fn idle(&self) -> Duration {
        self.shared.seen().last.map_or(Duration::ZERO, |last| last.elapsed())
    }

    /// The blocks of the version in the order of their first request. If a block occurs several times in the image,
    /// its first place is used.
    ///
    /// # Errors
    /// Does not occur with recorded requests.
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

    /// Returns the content for this path.
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

    /// The compressed block from a store with an intact copy.
    async fn block(&self, row: &BlockRow, freshness: Freshness) -> Result<Bytes, ReadError> {
        let first = self.good.load(Ordering::Relaxed);
        let (at, file) = repo::block_from(&self.stores, first, row, freshness).await?;
        self.good.store(at, Ordering::Relaxed);
        Ok(file)
    }

    /// Returns when the simulated network has sent this many bytes, after everything queued before.
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
    /// Records a request on arrival.
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

    /// Counts a response.
    fn count(&mut self, path: Option<&RepoPath>, bytes: u64) {
        self.fetched.requests += 1;
        self.fetched.bytes += bytes;
        if path.is_some_and(|path| matches!(path.kind(), Kind::Block(_))) {
            self.fetched.blocks += 1;
            self.fetched.block_bytes += bytes;
        }
    }
}
