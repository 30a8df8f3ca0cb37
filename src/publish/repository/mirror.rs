//! A mirror that is being worked on: its store, its lock and its head.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{join, join_all, try_join_all};
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

use super::connect::refuse_cache;
use super::options::Repository;
use crate::config::{Mirror, WritePlace};
use crate::error::{Error, ErrorKind};
use crate::format::head::FileRow;
use crate::progress::{Event, Progress, Silent};
use crate::repo;
use crate::repo::survey::{BlockListing, VerifiedHead};
use crate::store::rate_limit::Pace;
use crate::store::retry::Retry;
use crate::store::{Fetch, Lock, Store, StoreError, StoreErrorKind, lock};
use crate::system::host::Host;
use crate::weaken::{self, Weakness};

/// Delay after finding the first mirror locked before it is tried again and then the others: a publisher that works on
/// all mirrors has locked them by then.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// How long locking a mirror may take until the next mirror is tried as well.
const NEXT_AFTER: Duration = Duration::from_secs(5);

/// Time limit for taking a lock: observing a lock until it is stale takes 35 s, and a mirror may respond slowly.
const LOCK_PATIENCE: Duration = Duration::from_secs(120);

/// Delay before the user is notified of waiting for a lock.
const LOCK_SILENCE: Duration = Duration::from_secs(3);

/// Number of mirrors found locked after which another publisher is taken to work on all of them.
const HELD_MAX: usize = 3;

/// An open mirror.
#[derive(Debug)]
pub struct OpenMirror {
    /// Its configuration in mirrors.toml.
    pub config: Mirror,
    /// The store used to write it; guarded by its lock once that is taken.
    pub store: Arc<dyn Store>,
    unguarded: Arc<Retry<dyn Store>>,
    host: Arc<dyn Host>,
    /// Where clients read it, if the publisher can read there too.
    pub public: Option<Arc<dyn Fetch>>,
    /// Its head of the current image when the work began.
    pub head: Option<Arc<VerifiedHead>>,
    /// Why it no longer takes part, once something has failed.
    pub failed: Option<Failure>,
    /// The failure from opening or surveying the mirror, which holds for every image.
    pub lost: Option<Failure>,
    /// What is known about blocks that its head does not vouch for.
    pub presence: Presence,
    /// Whether it has everything that this run was to bring it.
    pub is_current: bool,
    /// Whether this run may have left objects there that no head names.
    pub undone: bool,
    /// Whether the unfinished work of another publisher was checked.
    pub is_resumed: bool,
    /// Whether it was slower with an object than another mirror.
    slow: AtomicBool,
    /// The lock held during the work.
    pub lock: Option<Arc<dyn Lock>>,
}

/// Why a mirror was left behind.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Kind of the failure.
    pub kind: ErrorKind,
    /// Description of the failure.
    pub why: String,
    /// Advice to the user.
    pub advice: Option<String>,
}

/// The location of a mirror, independent of the current directory; `relative_to` is the directory of the mirrors.toml.
pub fn place(mirror: &Mirror, relative_to: &Path) -> String {
    match &mirror.write {
        WritePlace::Directory(path) => {
            let path = relative_to.join(path);
            // Without a slash at the end, whoever names it.
            let path: PathBuf = std::path::absolute(&path).unwrap_or(path).components().collect();
            path.display().to_string()
        }
        WritePlace::Remote(_) => mirror.write.to_string(),
    }
}

impl OpenMirror {
    async fn open(config: &Mirror, repository: &Repository) -> Result<Self, Error> {
        let driver = repository.connect.store(config, &repository.relative_to).await?;
        let retried = Retry::new(driver, Arc::clone(&repository.host)).paced(config.rate.map(Pace::new));
        let unguarded = Arc::new(retried);
        let store = Arc::clone(&unguarded) as Arc<dyn Store>;
        let mut mirror = Self {
            config: config.clone(),
            store,
            unguarded,
            host: Arc::clone(&repository.host),
            public: repository.connect.public(config)?,
            head: None,
            failed: None,
            lost: None,
            presence: Presence::Unlikely,
            is_current: false,
            undone: false,
            is_resumed: false,
            slow: AtomicBool::new(false),
            lock: None,
        };
        // The owner of the mirror can place that mark; it excludes this mirror and no others.
        if let Err(e) = refuse_cache(config, &repository.relative_to) {
            mirror.fail(e);
        }
        Ok(mirror)
    }

    /// Where clients read it, with retries if unreachable.
    pub fn public_retried(&self) -> Option<Retry<dyn Fetch>> {
        Some(Retry::new(Arc::clone(self.public.as_ref()?), Arc::clone(&self.host)))
    }

    /// Mirror name.
    pub fn name(&self) -> &str {
        self.config.name.as_str()
    }

    /// Its location, see [`place()`].
    pub fn place(&self, relative_to: &Path) -> String {
        place(&self.config, relative_to)
    }

    /// Marks it as failed; the first reason stays.
    pub fn fail(&mut self, error: Error) {
        let advice = error.advice().map(str::to_owned);
        let failure = Failure { kind: error.kind(), why: error.to_string(), advice };
        self.failed.get_or_insert(failure);
    }

    /// Confirms that this publisher holds the lock.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if another publisher took the lock.
    pub async fn confirm(&self) -> Result<(), Error> {
        match &self.lock {
            Some(lock) => Ok(lock.confirm().await?),
            None => Ok(()),
        }
    }

    /// Whether it is certain at this moment that this publisher holds the lock.
    pub fn is_certain(&self) -> bool {
        self.lock.as_ref().is_none_or(|lock| lock.is_certain()) || weaken::is(Weakness::Certainty)
    }

    /// Whether an earlier publisher died while it held the lock.
    pub fn is_unfinished(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.unfinished())
    }

    /// Whether it still takes part.
    pub fn is_up(&self) -> bool {
        self.failed.is_none()
    }

    /// Notes that it was slower with an object than another mirror.
    pub fn note_slow(&self) {
        self.slow.store(true, Relaxed);
    }

    /// Whether it was slow; then it is asked last.
    pub fn is_slow(&self) -> bool {
        self.slow.load(Relaxed)
    }

    /// The number of concurrent object transfers.
    ///
    /// Releases the lock and leaves a mark if work is unfinished.
    ///
    /// A protocol is not compiled in; a secret is missing.
    pub fn jobs(&self) -> usize {
        self.config.jobs.map_or(self.store.jobs(), |jobs| jobs as usize)
    }

    async fn take_lock(&mut self, host: &Arc<dyn Host>, progress: &dyn Progress) -> Result<(), Error> {
        let store = Arc::clone(&self.unguarded) as Arc<dyn Store>;
        let mut taking = pin!(timeout(LOCK_PATIENCE, lock::lock(&store, host)));
        let taken = tokio::select! {
            taken = &mut taking => taken,
            () = tokio::time::sleep(LOCK_SILENCE) => {
                let why = "it is locked, or slow; a lock that nobody renews is taken over after 35 s";
                let text = format!("mirror {}: {why}", self.name());
                progress.event(Event::Step(&text));
                taking.await
            }
        };
        let lock = taken.unwrap_or_else(|_| {
            let why = format!("it could not be locked within {} s", LOCK_PATIENCE.as_secs());
            Err(StoreError::whole(store.location(), StoreErrorKind::Unreachable, why))
        })?;
        self.store = Arc::new(self.unguarded.guarded(Arc::clone(&lock)));
        self.lock = Some(lock);
        Ok(())
    }

    async fn lock_or_fail(&mut self, host: &Arc<dyn Host>, progress: &dyn Progress) {
        if let Err(e) = self.take_lock(host, progress).await {
            self.fail(e);
        }
    }

    /// Releases the lock and records for the next holder whether work was left unfinished.
    async fn unlock(&mut self) {
        let Some(lock) = self.lock.take() else { return };
        let left_before = lock.unfinished() && !self.is_resumed;
        lock.release(!self.undone && !left_before).await;
    }
}

/// Opens the stores of all mirrors.
///
/// # Errors
/// A protocol is not compiled in; a secret is missing.
pub async fn open_all(repository: &Repository) -> Result<Vec<OpenMirror>, Error> {
    try_join_all(repository.mirrors.mirrors.iter().map(|mirror| OpenMirror::open(mirror, repository))).await
}

/// The stores of all mirrors for reading, through their public URLs where they have one.
///
/// # Errors
/// A protocol is not compiled in; a secret is missing.
pub async fn readers(repository: &Repository) -> Result<Vec<Arc<dyn Fetch>>, Error> {
    let opened = open_all(repository).await?;
    Ok(opened.into_iter().map(|m| m.public.unwrap_or(m.store)).collect())
}

/// Locks every mirror. Mirrors that cannot be reached fail; the others go on.
///
/// The first mirror that answers is locked alone and decides between competing publishers. If it is held, either
/// another publisher works on all mirrors, or its lock is never released. So it is tried once more, then the next
/// mirrors, which a working publisher has locked by then too. The first free mirror decides, and mirrors still held
/// then are left behind. A slow mirror does not keep the next one from deciding.
///
/// # Errors
/// Another publisher is at work; then no mirror stays locked.
pub async fn lock_all(mirrors: &mut [OpenMirror], host: &Arc<dyn Host>, progress: &dyn Progress) -> Result<(), Error> {
    let mut next = mirrors.iter_mut().filter(|mirror| mirror.is_up()).peekable();
    let (mut taking, mut held, mut is_free) = (FuturesUnordered::new(), Vec::new(), false);
    while !is_free && held.len() < HELD_MAX {
        match next.next() {
            Some(mirror) => taking.push(take_twice(mirror, held.is_empty(), host, progress)),
            None if taking.is_empty() => break,
            None => {}
        }
        tokio::select! {
            Some((mirror, taken)) = taking.next() => match taken {
                Ok(()) => is_free = true,
                Err(e) if is_held(&e) => held.push((mirror, e)),
                Err(e) => mirror.fail(e),
            },
            () = tokio::time::sleep(NEXT_AFTER), if next.peek().is_some() => {}
        }
    }
    if !is_free && !held.is_empty() {
        let (_, error) = held.swap_remove(0);
        return Err(error.hint(
            "wait for it to end and run the same command again; a mirror whose lock never ends can be left out with \
             `enabled = false`",
        ));
    }
    let again = held.into_iter().map(|(mirror, _)| mirror);
    let others = join_all(next.chain(again).map(|mirror| mirror.lock_or_fail(host, progress)));
    let running = taking.for_each(|(mirror, taken)| {
        taken.unwrap_or_else(|e| mirror.fail(e));
        std::future::ready(())
    });
    join(others, running).await;
    Ok(())
}

/// Takes the lock of a mirror; if it is held and `second_look` is set, tries once more a little later.
async fn take_twice<'a>(
    mirror: &'a mut OpenMirror,
    second_look: bool,
    host: &Arc<dyn Host>,
    progress: &dyn Progress,
) -> (&'a mut OpenMirror, Result<(), Error>) {
    let mut taken = mirror.take_lock(host, progress).await;
    if second_look && taken.as_ref().is_err_and(is_held) {
        tokio::time::sleep(SECOND_LOOK).await;
        taken = mirror.take_lock(host, &Silent).await;
    }
    (mirror, taken)
}

/// Whether another publisher holds the lock.
fn is_held(error: &Error) -> bool {
    error.kind() == ErrorKind::Conflict
}

/// Releases the locks of all mirrors.
pub async fn unlock_all(mirrors: &mut [OpenMirror]) {
    join_all(mirrors.iter_mut().map(OpenMirror::unlock)).await;
}

/// Collects the results of work on the mirrors in `which`. Each had `patience` after the first success; a mirror that
/// failed or took longer no longer takes part.
pub fn settle<T, E: Into<Error>>(
    mirrors: &mut [OpenMirror],
    which: impl IntoIterator<Item = usize>,
    done: Vec<Option<Result<T, E>>>,
    patience: Duration,
) -> Vec<(usize, T)> {
    let mut settled = Vec::new();
    for (i, done) in which.into_iter().zip(done) {
        match done.map_or_else(|| Err(lags(&mirrors[i], patience)), |done| done.map_err(Into::into)) {
            Ok(done) => settled.push((i, done)),
            Err(e) => mirrors[i].fail(e),
        }
    }
    settled
}

/// Indexes of the mirrors that still take part.
pub fn up(mirrors: &[OpenMirror]) -> Vec<usize> {
    (0..mirrors.len()).filter(|&i| mirrors[i].is_up()).collect()
}

/// The error for a mirror that is too far behind the others.
pub fn lags(mirror: &OpenMirror, patience: Duration) -> Error {
    let waited = humantime::format_duration(patience);
    let message = format!("{}: not ready {waited} after the others", mirror.store.location());
    Error::new(ErrorKind::Unreachable, message).hint("run the same command again, or give it longer with --patience")
}

/// The error if no mirror is left.
pub fn all_failed(mirrors: &[OpenMirror]) -> Option<Error> {
    if mirrors.iter().any(OpenMirror::is_up) {
        return None;
    }
    let failures: Vec<_> = mirrors.iter().filter_map(|m| m.failed.as_ref().map(|f| (m.name(), f))).collect();
    let kind = failures.first().map_or(ErrorKind::Unreachable, |(_, f)| f.kind);
    let same_kind = failures.iter().all(|(_, f)| f.kind == kind);
    let text: Vec<String> = failures.iter().map(|(name, f)| format!("mirror {name}: {}", f.why)).collect();
    let error = Error::new(if same_kind { kind } else { ErrorKind::Unreachable }, text.join("; "));
    let advice = failures.iter().find_map(|(_, f)| f.advice.as_deref());
    Some(match advice {
        Some(advice) => error.hint(advice),
        None => error,
    })
}

/// Reads a file that a head names from the first mirror with a good copy.
///
/// # Errors
/// No mirror has a good copy; the file is larger than `max_bytes`.
pub async fn file(mirrors: &[OpenMirror], row: &FileRow, max_bytes: u64) -> Result<Bytes, Error> {
    let have_it = mirrors.iter().filter(|m| m.is_up() && m.head.is_some());
    let stores: Vec<Arc<dyn Fetch>> = have_it.map(|m| Arc::clone(&m.store) as Arc<dyn Fetch>).collect();
    let failed = |why| Error::new(ErrorKind::Unverified, format!("no mirror has a good copy of {}: {why}", row.path));
    repo::file_from(&stores, row, max_bytes).await.map_err(failed)
}

/// How likely a mirror has a block that no head vouches for.
#[derive(Debug, Clone)]
pub enum Presence {
    /// Unlikely: the block is sent, and the store reports whether it was there.
    Unlikely,
    /// A publisher died there: each block is queried before it is sent.
    Likely,
    /// Known from a listing of the mirror.
    Listed(Arc<BlockListing>),
}
