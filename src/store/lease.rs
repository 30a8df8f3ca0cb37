//! A publisher lock that works on every store: a lock object that names its holder and is renewed while the holder
//! lives. Where a store has a native lock, that one is taken first and released last; it shows at once whether its
//! holder still lives.
//!
//! Clocks of different machines are never compared. A publisher that finds the lock taken watches it. A lock object
//! that changes is held; one unchanged for [`LEASE`] belongs to a dead process and is taken over. [`LEASE_HERE`]
//! suffices where that process ran on this machine and is gone. The holder measures time too: its lock is certain for
//! [`CERTAIN`] after the last successful renewal, by a clock that includes suspend. After that it must confirm the lock
//! before it continues ([`Lock::is_certain`]). The guarantee depends on the store:
//!
//! - with a working exclusive create (tested, not assumed), two publishers never both hold the lock;
//! - without one, both may assume they hold it for as long as one request is in flight. So a new holder waits
//!   [`SETTLE`] and checks that the lock is still its own before it does anything irreversible. That fails only where a
//!   request takes longer than [`SETTLE`] to arrive; then the compare-and-swap on the heads decides.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::process;
use super::{Exclusive, Lock, Put, Store, StoreError, StoreErrorKind, Swap};
use crate::format::layout::RepoPath;
use crate::format::lock::{Holder, State};
use crate::system::host::Host;

/// Interval between renewals by the holder.
const BEAT: Duration = Duration::from_secs(5);
/// A lock unchanged for this long belongs to a dead process.
const LEASE: Duration = Duration::from_secs(35);
/// The same where the process ran on this machine and is gone. Not zero: a cloned virtual machine has the host name and
/// boot ID of the original, and the holder may live there.
const LEASE_HERE: Duration = Duration::from_secs(8);
/// How long a lock is certain after a renewal was sent. The rest of [`LEASE`] is left for the request that relies on
/// it.
const CERTAIN: Duration = Duration::from_secs(25);
/// Interval between reads of a lock that is being watched.
const LOOK: Duration = Duration::from_secs(2);
/// How long a request may be in flight before a lock without exclusive create is no longer certain.
const SETTLE: Duration = Duration::from_secs(2);
/// Timeout for releasing a lock.
const RELEASE_WAIT: Duration = Duration::from_secs(10);
/// Attempts to read an unreadable lock object, and the pause between them.
const LOOKS_MAX: u32 = 4;
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// Size limit of a lock object.
const TEXT_MAX_BYTES: u64 = 4096;

/// Takes the lock of `store`. `own` is the store's native lock: released together with this one, and left held on
/// failure.
///
/// # Errors
/// [`StoreErrorKind::Locked`] where a live publisher holds it.
pub(super) async fn take(
    store: &Arc<dyn Store>,
    host: &Arc<dyn Host>,
    own: Option<Arc<dyn Lock>>,
) -> Result<Arc<dyn Lock>, StoreError> {
    let me = process::holder(&**host, if own.is_some() { State::Owned } else { State::Held });
    let claim = Claim { store: Arc::clone(store), host: Arc::clone(host), path: RepoPath::lock(), me, own };
    let acquired = claim.acquire().await?;
    Ok(Arc::new(Lease::hold(claim, &acquired)))
}

/// The error of a store whose native lock is held, with the holder that its lock object names, if it names one.
pub(super) async fn held_by(store: &dyn Store) -> Option<StoreError> {
    let text = store.get(&RepoPath::lock(), TEXT_MAX_BYTES).await.ok()?;
    Holder::parse(&text).map(|holder| locked(store, Some(&holder)))
}

fn locked(store: &dyn Store, holder: Option<&Holder>) -> StoreError {
    let who = holder.map(|holder| format!(" on {}", holder.who())).unwrap_or_default();
    let why = format!("another publisher{who} is at work here");
    StoreError::at(store.location(), &RepoPath::lock(), StoreErrorKind::Locked, why)
}

/// A lock that is being taken, or is held.
#[derive(Debug)]
struct Claim {
    store: Arc<dyn Store>,
    host: Arc<dyn Host>,
    path: RepoPath,
    me: Holder,
    own: Option<Arc<dyn Lock>>,
}

/// How a lock was taken.
struct Acquired {
    /// Whether the previous holder left work unfinished.
    unfinished: bool,
    /// Whether the store's exclusive create guarantees that there is no other holder.
    exclusive: bool,
    /// When the request that took the lock was sent, as time since boot.
    at: Duration,
}

impl Claim {
    /// Takes the lock.
    async fn acquire(&self) -> Result<Acquired, StoreError> {
        let mut unfinished = false;
        for _ in 0..3 {
            let at = self.host.boot();
            let found = match self.look().await? {
                Some(found) => found,
                None => match self.store.put_new(&self.path, self.me.text()).await? {
                    Put::Created => return Ok(Acquired { unfinished, exclusive: self.try_promise().await?, at }),
                    Put::Exists => self.look().await?.unwrap_or_default(),
                },
            };
            let patience = match Holder::parse(&found) {
                Some(holder) if holder.token == self.me.token => {
                    return Ok(Acquired { unfinished, exclusive: false, at });
                }
                Some(holder) if holder.state == State::Unfinished => Duration::ZERO,
                Some(holder) if holder.state == State::Owned && self.own.is_some() => Duration::ZERO,
                Some(holder) if process::is_gone_here(&holder) => LEASE_HERE,
                _ => LEASE,
            };
            if !self.outlives(&found, patience).await? {
                continue;
            }
            unfinished = true;
            let at = self.host.boot();
            if self.store.swap(&self.path, Some(&found), self.me.text()).await? == Swap::Done {
                return Ok(Acquired { unfinished, exclusive: false, at });
            }
        }
        Err(self.locked(None))
    }

    /// Reads the lock object. It may be created or deleted meanwhile, so an error other than unreachable is retried.
    async fn look(&self) -> Result<Option<Bytes>, StoreError> {
        let mut looks = 0;
        loop {
            looks += 1;
            match self.store.get(&self.path, TEXT_MAX_BYTES).await {
                Ok(text) => return Ok(Some(text)),
                Err(e) if e.kind() == StoreErrorKind::NotFound => return Ok(None),
                Err(e) if e.kind() == StoreErrorKind::Unreachable || looks >= LOOKS_MAX => return Err(e),
                Err(_) => tokio::time::sleep(LOOK_PAUSE).await,
            }
        }
    }

    /// Whether `found` stays unchanged for `patience`, so that its holder is dead; false if it was released.
    async fn outlives(&self, found: &Bytes, patience: Duration) -> Result<bool, StoreError> {
        let since = Instant::now();
        while since.elapsed() < patience {
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
        locked(&*self.store, holder.as_ref())
    }

    /// Whether the store's exclusive create is reliable; where it is only claimed, it is tested on the lock object
    /// itself.
    async fn try_promise(&self) -> Result<bool, StoreError> {
        match self.store.exclusive() {
            Exclusive::Always => Ok(true),
            Exclusive::CheckThenWrite => Ok(false),
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
    /// The lock object's current content; the mutex is held while it is being changed.
    shown: Arc<Mutex<Holder>>,
    unfinished: bool,
    /// When the store confirmed that the lock was taken.
    taken: Instant,
    standing: Arc<Certainty>,
    heart: JoinHandle<()>,
}

/// During which time a lock is certain, in the holder's time since boot.
#[derive(Debug)]
struct Certainty {
    lost: AtomicBool,
    /// Start of certainty, in milliseconds: a store without exclusive create has to settle first.
    from_ms: AtomicU64,
    /// End of certainty, in milliseconds.
    until_ms: AtomicU64,
}

impl Certainty {
    /// Records that a successful renewal was sent `at` this time.
    fn shown(&self, at: Duration) {
        self.until_ms.fetch_max(milliseconds(at + CERTAIN), Relaxed);
    }

    fn is_certain(&self, now: Duration) -> bool {
        let now = milliseconds(now);
        !self.lost.load(Relaxed) && self.from_ms.load(Relaxed) <= now && now < self.until_ms.load(Relaxed)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Lease {
    fn hold(claim: Claim, acquired: &Acquired) -> Self {
        let from = if acquired.exclusive { Duration::ZERO } else { Duration::MAX };
        let standing = Certainty {
            lost: AtomicBool::new(false),
            from_ms: AtomicU64::new(milliseconds(from)),
            until_ms: AtomicU64::new(milliseconds(acquired.at + CERTAIN)),
        };
        let (claim, standing) = (Arc::new(claim), Arc::new(standing));
        let shown = Arc::new(Mutex::new(claim.me.clone()));
        let heart = tokio::spawn(beat_on(Arc::clone(&claim), Arc::clone(&shown), Arc::clone(&standing)));
        Self { claim, shown, unfinished: acquired.unfinished, taken: Instant::now(), standing, heart }
    }

    /// Waits until two publishers that took the lock within one request would both see the winner. Work done meanwhile
    /// counts towards the wait.
    async fn settle(&self) -> Result<(), StoreError> {
        if self.standing.from_ms.load(Relaxed) == milliseconds(Duration::MAX) {
            tokio::time::sleep_until(self.taken + SETTLE).await;
            let found = self.claim.look().await?;
            if !self.claim.is_mine(&found) {
                self.standing.lost.store(true, Relaxed);
                return Err(self.claim.locked(found.as_deref().and_then(Holder::parse)));
            }
            self.standing.from_ms.store(0, Relaxed);
        }
        Ok(())
    }

    async fn give_up(&self, finished: bool) {
        let shown = self.shown.lock().await;
        self.heart.abort();
        let claim = &self.claim;
        if self.standing.lost.swap(true, Relaxed) || !claim.is_mine(&claim.look().await.ok().flatten()) {
            return;
        }
        // After a suspend the lock may be another publisher's by now: leave it to expire.
        if milliseconds(claim.host.boot()) >= self.standing.until_ms.load(Relaxed) {
            return;
        }
        let _ = if finished {
            claim.store.delete(&claim.path).await
        } else {
            let left = Holder { state: State::Unfinished, ..shown.clone() };
            claim.store.put_replace(&claim.path, left.text()).await
        };
    }
}

/// Renews the lock periodically until it turns out to be another publisher's.
async fn beat_on(claim: Arc<Claim>, shown: Arc<Mutex<Holder>>, standing: Arc<Certainty>) {
    while !standing.lost.load(Relaxed) {
        tokio::time::sleep(BEAT).await;
        // A later renewal may succeed; if none does for too long, the lock is no longer certain.
        let _ = beat(&claim, &mut *shown.lock().await, &standing).await;
    }
}

/// Renews the lock object; false where it is another publisher's. An earlier renewal may have arrived although it timed
/// out here: then this one continues from it. Only once, as a faulty mirror could return newer beats forever.
async fn beat(claim: &Claim, shown: &mut Holder, standing: &Certainty) -> Result<bool, StoreError> {
    for _ in 0..2 {
        let (at, new) = (claim.host.boot(), Holder { beat: shown.beat + 1, ..shown.clone() });
        if claim.store.swap(&claim.path, Some(&shown.text()), new.text()).await? == Swap::Done {
            *shown = new;
            standing.shown(at);
            return Ok(true);
        }
        let found = claim.look().await?.as_deref().and_then(Holder::parse);
        match found.filter(|found| found.token == shown.token && found.beat > shown.beat) {
            Some(earlier) => *shown = earlier,
            None => break,
        }
    }
    standing.lost.store(true, Relaxed);
    Ok(false)
}

#[async_trait]
impl Lock for Lease {
    fn unfinished(&self) -> bool {
        self.unfinished
    }

    fn is_certain(&self) -> bool {
        self.standing.is_certain(self.claim.host.boot())
    }

    /// A lock object that still has this holder's token was never another publisher's: a takeover replaces the token.
    async fn confirm(&self) -> Result<(), StoreError> {
        self.settle().await?;
        if self.is_certain() {
            return Ok(());
        }
        let mut shown = self.shown.lock().await;
        if !self.standing.lost.load(Relaxed) && beat(&self.claim, &mut shown, &self.standing).await? {
            let late = || {
                let why = format!("renewing its lock takes longer than {} s", CERTAIN.as_secs());
                StoreError::whole(self.claim.store.location(), StoreErrorKind::Unreachable, why)
            };
            return if self.is_certain() { Ok(()) } else { Err(late()) };
        }
        let found = self.claim.look().await.ok().flatten();
        Err(self.claim.locked(found.as_deref().and_then(Holder::parse)))
    }

    /// Removes the lock object, or marks it unfinished. Where the store does not answer in time, the lock expires like
    /// that of a dead process.
    async fn release(&self, finished: bool) {
        let _ = timeout(RELEASE_WAIT, self.give_up(finished)).await;
        self.heart.abort();
        if let Some(own) = &self.claim.own {
            own.release(finished).await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.heart.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::time::Timestamp;
    use crate::store::directory::Directory;

    /// A machine whose clock is set by hand, in seconds.
    #[derive(Debug, Default)]
    struct Machine(AtomicU64);

    impl Host for Machine {
        fn boot(&self) -> Duration {
            Duration::from_secs(self.0.load(Relaxed))
        }

        fn now(&self) -> Timestamp {
            Timestamp::from_unix(0)
        }

        fn random(&self) -> u64 {
            7
        }
    }

    #[tokio::test]
    async fn a_beat_whose_answer_was_lost_is_not_another_publishers() {
        let (home, machine) = (tempfile::tempdir().unwrap(), Arc::new(Machine::default()));
        let store: Arc<dyn Store> = Arc::new(Directory::new(home.path()));
        let lock = take(&store, &(Arc::clone(&machine) as Arc<dyn Host>), None).await.unwrap();
        let file = home.path().join("publish.lock");
        let change = |from: &str, to: &str| {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.contains(from), "{text}");
            std::fs::write(&file, text.replace(from, to)).unwrap();
        };
        change("beat 0", "beat 1");
        machine.0.store(60, Relaxed);
        assert!(!lock.is_certain());
        lock.confirm().await.unwrap();
        assert!(lock.is_certain());
        change("beat 2", "beat 2");

        change("token 0", "token 1");
        machine.0.store(120, Relaxed);
        assert_eq!(lock.confirm().await.unwrap_err().kind(), StoreErrorKind::Locked);
        assert!(!lock.is_certain());
    }
}
