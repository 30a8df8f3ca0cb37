//! Reads files of the disk cache on threads that may hang: no one waits for one longer than [`PATIENCE`], and for a disk
//! that is slower than the network not even as long.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::system::workers::Workers;

/// How long a block from the disk is waited for: far longer than a disk that works takes, and far shorter than anybody's
/// patience with a read.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How long it is waited for alone; then the network is asked besides, and whoever is first is taken.
const ALONE: Duration = Duration::from_secs(1);
/// The same once that was too long, until the disk has given a block in this time.
const ALONE_SLOW: Duration = Duration::from_millis(50);
/// Files read and inflated at the same time, beside one for each core.
const BESIDE_CORES: usize = 1;

/// The threads that read the cache.
#[derive(Debug)]
pub struct Reader {
    workers: Workers,
    is_slow: AtomicBool,
}

impl Reader {
    /// With a thread for each core and one more.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self { workers: Workers::new(cores + BESIDE_CORES), is_slow: AtomicBool::new(false) }
    }

    /// What `work`, which blocks its thread, comes to, if it comes to anything in time.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Option<T> + Send + 'static) -> Option<T> {
        self.workers.run(PATIENCE, work).await.ok().flatten()
    }

    /// What a disk that keeps up comes to in `loading`; `None` where it is slow and no longer worth to wait for alone.
    pub async fn soon<T>(&self, loading: impl Future<Output = Option<T>>) -> Option<Option<T>> {
        let patience = if self.is_slow.load(Relaxed) { ALONE_SLOW } else { ALONE };
        let loaded = tokio::time::timeout(patience, loading).await.ok();
        match &loaded {
            Some(Some(_)) => self.is_slow.store(false, Relaxed),
            // What is not there says nothing of what is.
            Some(None) => {}
            None => self.is_slow.store(true, Relaxed),
        }
        loaded
    }
}
