//! A lock for stores that have none of their own: an object that names its holder and changes while the holder lives.
//!
//! No clock is compared with another machine's. Whoever finds the lock taken watches it: one that changes is held, one
//! that stays the same for [`LEASE`] belongs to the dead and is taken over, at once where the dead process was of this
//! machine. What is guaranteed depends on the store:
//!
//! - with an exclusive create that keeps its promise (tried, not believed) two publishers never both hold it;
//! - without one they may both believe so for as long as a request is under way. So a new holder waits [`SETTLE`] and
//!   looks whether the lock is still its own before it does what cannot be undone. That fails only where a request takes
//!   longer than [`SETTLE`] to arrive; then the heads, which are replaced only if they still are what they were, decide.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::holder::Holder;
use super::{Exclusive, Lock, Put, Store, StoreError, StoreErrorKind, Swap};
use crate::layout::RepoPath;

/// How often a holder shows that it lives.
const BEAT: Duration = Duration::from_secs(10);
/// How long a lock stays the same before it belongs to the dead.
const LEASE: Duration = Duration::from_secs(35);
/// How often a lock is looked at that is watched.
const LOOK: Duration = Duration::from_secs(2);
/// How long a request may take to arrive before a lock without exclusive create is no longer certain.
const SETTLE: Duration = Duration::from_secs(2);
/// How long releasing a lock may take.
const RELEASE_WAIT: Duration = Duration::from_secs(10);
/// The largest lock object that is read.
const TEXT_MAX_BYTES: u64 = 4096;

/// Takes the lock of `store`.
///
/// # Errors
/// [`StoreErrorKind::Locked`] where a living publisher holds it.
pub(super) async fn take(store: &Arc<dyn Store>) -> Result<Box<dyn Lock>, StoreError> {
    let path: RepoPath = "publish.lock".parse().map_err(|_| protocol(&**store, "its lock has no name"))?;
    let claim = Claim { store: Arc::clone(store), path, me: Holder::me() };
    let (unfinished, certain) = claim.stake().await?;
    Ok(Box::new(Lease::hold(claim, unfinished, certain)))
}

fn protocol(store: &dyn Store, why: &str) -> StoreError {
    StoreError::whole(store.location(), StoreErrorKind::Protocol, why)
}

/// A lock that is wanted, or held.
#[derive(Debug)]
struct Claim {
    store: Arc<dyn Store>,
    path: RepoPath,
    me: Holder,
}

impl Claim {
    /// Takes the lock; says whether work was left undone before, and whether it is certain that nobody else has it.
    async fn stake(&self) -> Result<(bool, bool), StoreError> {
        let mut unfinished = false;
        for _ in 0..3 {
            let found = match self.look().await? {
                Some(found) => found,
                None => match self.store.put_new(&self.path, self.me.text()).await? {
                    Put::Created => return Ok((unfinished, self.try_promise().await?)),
                    Put::Exists => self.look().await?.unwrap_or_default(),
                },
            };
            match Holder::parse(&found) {
                Some(holder) if holder.token == self.me.token => return Ok((unfinished, false)),
                Some(holder) if holder.unfinished || holder.is_dead_here() => {}
                _ if self.outlives(&found).await? => {}
                _ => continue,
            }
            unfinished = true;
            if self.store.swap(&self.path, Some(&found), self.me.text()).await? == Swap::Done {
                return Ok((true, false));
            }
        }
        Err(self.locked(None))
    }

    async fn look(&self) -> Result<Option<Bytes>, StoreError> {
        match self.store.get(&self.path, TEXT_MAX_BYTES).await {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == StoreErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether `found` stays the same for so long that nobody can hold the lock any more; not if it was released.
    async fn outlives(&self, found: &Bytes) -> Result<bool, StoreError> {
        let since = Instant::now();
        while since.elapsed() < LEASE {
            tokio::time::sleep(LOOK).await;
            match self.look().await? {
                Some(text) if text == *found => {}
                Some(text) => return Err(self.locked(Holder::parse(&text))),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn locked(&self, holder: Option<Holder>) -> StoreError {
        let who = holder.map(|h| format!(" on {}", h.machine())).unwrap_or_default();
        StoreError::at(
            self.store.location(),
            &self.path,
            StoreErrorKind::Locked,
            format!("another publisher{who} is at work here"),
        )
    }

    /// Whether the store's exclusive create can be relied upon; where it only says so, it is tried on the lock itself.
    async fn try_promise(&self) -> Result<bool, StoreError> {
        match self.store.exclusive() {
            Exclusive::Always => Ok(true),
            Exclusive::Looked => Ok(false),
            Exclusive::Claimed => Ok(self.store.put_new(&self.path, self.me.text()).await? == Put::Exists),
        }
    }

    fn is_mine(&self, text: &Option<Bytes>) -> bool {
        text.as_deref().and_then(Holder::parse).is_some_and(|holder| holder.token == self.me.token)
    }
}

/// A lock that is held.
#[derive(Debug)]
struct Lease {
    claim: Arc<Claim>,
    /// What the lock object says; locked while it is being changed.
    shown: Arc<Mutex<Holder>>,
    since: Instant,
    unfinished: bool,
    certain: bool,
    lost: Arc<AtomicBool>,
    heart: JoinHandle<()>,
}

impl Lease {
    fn hold(claim: Claim, unfinished: bool, certain: bool) -> Self {
        let (claim, lost) = (Arc::new(claim), Arc::new(AtomicBool::new(false)));
        let shown = Arc::new(Mutex::new(claim.me.clone()));
        let heart = tokio::spawn(beat(Arc::clone(&claim), Arc::clone(&shown), Arc::clone(&lost)));
        Self { claim, shown, since: Instant::now(), unfinished, certain, lost, heart }
    }

    async fn give_up(&self, finished: bool) {
        let shown = self.shown.lock().await;
        self.heart.abort();
        let claim = &self.claim;
        if self.lost.load(Relaxed) || !claim.is_mine(&claim.look().await.ok().flatten()) {
            return;
        }
        let _ = if finished {
            claim.store.delete(&claim.path).await
        } else {
            let left = Holder { unfinished: true, ..shown.clone() };
            claim.store.put_replace(&claim.path, left.text()).await
        };
    }
}

/// Shows that the holder lives, until the lock turns out to be somebody else's.
async fn beat(claim: Arc<Claim>, shown: Arc<Mutex<Holder>>, lost: Arc<AtomicBool>) {
    loop {
        tokio::time::sleep(BEAT).await;
        let mut shown = shown.lock().await;
        let new = Holder { beat: shown.beat + 1, ..shown.clone() };
        match claim.store.swap(&claim.path, Some(&shown.text()), new.text()).await {
            Ok(Swap::Done) => *shown = new,
            Ok(Swap::Changed) => return lost.store(true, Relaxed),
            // The next beat may get through; if none does for too long, somebody takes the lock and it is lost.
            Err(_) => {}
        }
    }
}

#[async_trait]
impl Lock for Lease {
    fn unfinished(&self) -> bool {
        self.unfinished
    }

    async fn confirm(&self) -> Result<(), StoreError> {
        if !self.certain {
            tokio::time::sleep_until(self.since + SETTLE).await;
        }
        let found = self.claim.look().await?;
        if self.lost.load(Relaxed) || !self.claim.is_mine(&found) {
            return Err(self.claim.locked(found.as_deref().and_then(Holder::parse)));
        }
        Ok(())
    }

    /// Removes the lock, or leaves word that work was left undone. Nothing can be done about a store that does not answer
    /// in time: then the lock is taken for that of the dead.
    async fn release(self: Box<Self>, finished: bool) {
        let _ = timeout(RELEASE_WAIT, self.give_up(finished)).await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.heart.abort();
    }
}
