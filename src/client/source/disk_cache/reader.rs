//! Reads files of the disk cache on threads that may hang: a read waits at most [`PATIENCE`], and less if the disk is
//! slower than the network.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::system::workers::Workers;

/// The longest wait for a block from disk: far longer than a working disk takes, and far shorter than a reader
/// tolerates.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait for the disk alone; then the network is asked as well, and the first answer is used.
const ALONE: Duration = Duration::from_secs(1);
/// The same after the disk was too slow, until it delivers a block within this time.
const ALONE_SLOW: Duration = Duration::from_millis(50);
/// Threads that read and inflate, beyond one per core.
const BESIDE_CORES: usize = 1;

/// The reader threads of the cache.
#[derive(Debug)]
pub struct Reader {
    workers: Workers,
    is_slow: AtomicBool,
}

impl Reader {
    /// Creates one thread per core plus one.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self { workers: Workers::new(cores + BESIDE_CORES), is_slow: AtomicBool::new(false) }
    }

    /// Whether the disk was slower than the network lately.
    pub fn is_slow(&self) -> bool {
        self.is_slow.load(Relaxed)
    }

    /// Runs blocking `work`; returns its result, unless it takes too long.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Option<T> + Send + 'static) -> Option<T> {
        self.workers.run(PATIENCE, work).await.ok().flatten()
    }

    /// Waits for `loading` as long as the disk alone is worth waiting for; `None` if it is slow.
    pub async fn soon<T>(&self, loading: impl Future<Output = Option<T>>) -> Option<Option<T>> {
        let patience = if self.is_slow.load(Relaxed) { ALONE_SLOW } else { ALONE };
        let loaded = tokio::time::timeout(patience, loading).await.ok();
        match &loaded {
            Some(Some(_)) => self.is_slow.store(false, Relaxed),
            // A missing file says nothing about the speed of the disk.
            Some(None) => {}
            None => self.is_slow.store(true, Relaxed),
        }
        loaded
    }
}
