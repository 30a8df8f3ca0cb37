//! Reads files of the disk cache on threads that may hang: nobody waits for one longer than [`PATIENCE`].
//!
//! A disk that hangs takes its few threads and no more, and those who come later are not made to wait at all, until all
//! of these threads are back. What a thread brings too late is dropped.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a block from the disk is waited for, with its turn: far longer than a disk that works takes, and far shorter
/// than anybody's patience with a read.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Files read and inflated at the same time, beside one for each core. The threads of a runtime for what may block must
/// be more than that.
const BESIDE_CORES: usize = 1;

/// Whoever reads files.
#[derive(Debug)]
pub struct Reader {
    turns: Arc<Semaphore>,
    most: usize,
    hangs: AtomicBool,
}

impl Reader {
    /// With a thread for each core and one more.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let most = cores + BESIDE_CORES;
        Self { turns: Arc::new(Semaphore::new(most)), most, hangs: AtomicBool::new(false) }
    }

    /// What `work`, which blocks its thread, comes to, if it comes to anything in time.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Option<T> + Send + 'static) -> Option<T> {
        let turn = self.turn_at_once()?;
        let done = tokio::time::timeout(PATIENCE, self.run_in_turn(turn, work)).await;
        self.hangs.store(done.is_err(), Relaxed);
        done.ok().flatten()
    }

    /// A turn if there is one; `Some(None)` where it is worth waiting for.
    fn turn_at_once(&self) -> Option<Option<OwnedSemaphorePermit>> {
        if self.hangs.load(Relaxed) && self.turns.available_permits() < self.most {
            return None;
        }
        Some(Arc::clone(&self.turns).try_acquire_owned().ok())
    }

    async fn run_in_turn<T: Send + 'static>(
        &self,
        turn: Option<OwnedSemaphorePermit>,
        work: impl FnOnce() -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let turn = match turn {
            Some(turn) => turn,
            None => Arc::clone(&self.turns).acquire_owned().await.ok()?,
        };
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            // Only now: a thread that hangs keeps its turn.
            drop(turn);
            done
        });
        done.await.ok().flatten()
    }
}
