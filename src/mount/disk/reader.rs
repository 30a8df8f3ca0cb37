//! Reads files of the disk cache on threads that may hang: no one waits for one longer than [`PATIENCE`].

use std::time::Duration;

use crate::store::workers::Workers;

/// How long a block from the disk is waited for: far longer than a disk that works takes, and far shorter than anybody's
/// patience with a read.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Files read and inflated at the same time, beside one for each core.
const BESIDE_CORES: usize = 1;

/// The threads that read the cache.
#[derive(Debug)]
pub struct Reader(Workers);

impl Reader {
    /// With a thread for each core and one more.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self(Workers::new(cores + BESIDE_CORES))
    }

    /// What `work`, which blocks its thread, comes to, if it comes to anything in time.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Option<T> + Send + 'static) -> Option<T> {
        self.0.run(PATIENCE, work).await.ok().flatten()
    }
}
