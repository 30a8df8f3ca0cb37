//! Lets the processes that share a cache directory share their fetches: of several that miss a block, one fetches it,
//! and the others read it from the directory.
//!
//! A process waits only as long as the one that fetches is certainly at work, and never longer than a few seconds; then
//! it fetches for itself.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::DiskStore;
use super::locks::{self, Lock};
use super::writer::Turn;
use crate::format::block::{Block, BlockRow};
use crate::repo::{Fetched, ReadError};

/// The longest wait for another process: as long as a slow mirror may take for a block.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// The longest wait for the disk to say who fetches a block: other readers of it are not worth more.
const CLAIM_MAX: Duration = Duration::from_millis(500);
/// How often a process that fetches says so, and after how long it is taken for stuck.
const BEAT: Duration = Duration::from_millis(100);
const STUCK_AFTER: Duration = Duration::from_millis(500);
/// The first pause between two looks at the directory, which doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(128);
/// Hexadecimal digits of a block's name that name its lock: few files, and two blocks in flight seldom share one.
const DIGITS: usize = 3;
/// Waits in vain, one after the other, after which this many misses do not wait.
const VAIN_MAX: i32 = 3;
const UNSHARED: i32 = 256;

/// What is known about a block that was not in the directory.
enum Claim {
    /// It is there now.
    Found(Block),
    /// This process is to fetch it.
    Mine(Turn),
    /// Another process fetches it.
    Theirs,
    /// Nobody certainly does.
    Nobody,
}

/// Who fetches a block.
pub enum Miss {
    /// Another process did.
    Shared(Block),
    /// This process, with a lock if there is one.
    Own(Option<Turn>),
}

/// Whether sharing is worth its waits.
#[derive(Debug)]
pub struct Worth(AtomicI32);

impl Default for Worth {
    fn default() -> Self {
        Self(AtomicI32::new(VAIN_MAX))
    }
}

impl Worth {
    /// Whether to wait for others now. A directory in which their blocks do not appear is tried again now and then.
    fn is_there(&self) -> bool {
        self.0.load(Relaxed) > 0 || self.0.fetch_add(1, Relaxed) >= 0
    }

    fn came(&self) {
        self.0.store(VAIN_MAX, Relaxed);
    }

    fn waited_in_vain(&self) {
        if self.0.fetch_sub(1, Relaxed) <= 1 {
            self.0.store(-UNSHARED, Relaxed);
        }
    }
}

impl DiskStore {
    /// Waits while another process fetches a block that is not in the directory.
    pub(super) async fn miss(self: &Arc<Self>, row: &BlockRow) -> Miss {
        if self.reader.is_slow() || !self.writer.works() || !self.worth.is_there() {
            return Miss::Own(None);
        }
        let (until, mut pause) = (Instant::now() + WAIT_MAX, PAUSE);
        loop {
            let (store, wanted) = (Arc::clone(self), *row);
            let claim = self.reader.run(move || Some(store.claim(&wanted)));
            match timeout(CLAIM_MAX, claim).await.ok().flatten() {
                Some(Claim::Found(block)) => {
                    self.worth.came();
                    return Miss::Shared(block);
                }
                Some(Claim::Mine(turn)) => {
                    if pause > PAUSE {
                        self.worth.waited_in_vain();
                    }
                    return Miss::Own(Some(turn));
                }
                Some(Claim::Theirs) if Instant::now() < until => {}
                _ => return Miss::Own(None),
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Takes the lock of a block if nobody has it, then looks for the block again. Blocks the thread.
    fn claim(&self, row: &BlockRow) -> Claim {
        let name = row.id.to_string();
        let lock = locks::take(&self.files, &name[..DIGITS]);
        if let Some(block) = self.holds(row).then(|| self.load(row)).flatten() {
            return Claim::Found(block);
        }
        match lock {
            Lock::Mine(held) => Claim::Mine(self.writer.turn(held)),
            Lock::Theirs(silent) if silent < STUCK_AFTER => Claim::Theirs,
            Lock::Theirs(_) | Lock::None => Claim::Nobody,
        }
    }
}

/// Waits for a fetch, and tells the processes that wait for it that it goes on. A disk that hangs does not hold it up.
pub async fn during(
    turn: Option<&Turn>,
    mut fetch: Pin<&mut (impl Future<Output = Result<Fetched, ReadError>> + ?Sized)>,
) -> Result<Fetched, ReadError> {
    let Some(turn) = turn else { return fetch.await };
    loop {
        match timeout(BEAT, fetch.as_mut()).await {
            Ok(fetched) => return fetched,
            Err(_) => turn.beat(),
        }
    }
}
