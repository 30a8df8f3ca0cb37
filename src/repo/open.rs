//! Opens an image from several stores. The only place that decides what a reader accepts: a verified head, neither
//! older than what was seen before nor expired, and the index that it names.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;

use super::options::{OpenOptions, Warning};
use super::rollback::VersionHistory;
use super::source::place;
use super::staggered::Staggered;
use super::{FoundHead, ReadError, StateError, head, index};
use crate::format::head::{Head, VersionRow};
use crate::format::index::Index;
use crate::format::time::Timestamp;
use crate::store::Fetch;
use crate::system::bridge::blocking;

/// Stores asked for a head at first, and added after each pause without a good one. Once there is a good head, all are
/// asked; it is taken as current once this many stores have the same.
const ASKED_FIRST: usize = 3;
/// See [`ASKED_FIRST`]. Also how long the others may still answer after the first good head: a newer one is worth no
/// more.
const HEAD_WAIT: Duration = Duration::from_secs(2);
/// Minimum wait for the others once [`ASKED_FIRST`] stores have the same head; otherwise they get as long as those
/// took.
const AGREED_WAIT: Duration = Duration::from_millis(250);
/// Time until a hedged request for the index goes to another store. On a slow connection, two are slower than one.
const INDEX_WAIT: Duration = Duration::from_secs(5);
/// How often an image is reopened because another reader on this machine has recorded a newer version meanwhile.
const OVERTAKEN_MAX: usize = 3;

/// An accepted head.
#[derive(Debug, Clone)]
pub struct AcceptedHead {
    /// Parsed head.
    pub head: Head,
    /// Head file.
    pub head_file: Bytes,
    /// Warnings for the user.
    pub warnings: Vec<Warning>,
}

/// An image as a reader opened it: one accepted version.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The head that vouches for it.
    pub head: Head,
    /// Head file.
    pub head_file: Bytes,
    /// The version's row in the head.
    pub row: VersionRow,
    /// Index of the version.
    pub index: Arc<Index>,
    /// Warnings for the user.
    pub warnings: Vec<Warning>,
}

/// Opens an image from the stores. The newest acceptable head wins; the index comes from any store that has it. What
/// was accepted is recorded.
///
/// # Errors
/// When no store has an acceptable head, or none has the index; the most telling reason is returned.
pub async fn open(stores: &[Arc<dyn Fetch>], options: &OpenOptions) -> Result<Opened, ReadError> {
    let mut overtaken = 0;
    loop {
        let Chosen { found: FoundHead { head, file: head_file, .. }, from, .. } = choose(stores, options).await?;
        let row = match options.version {
            None => head.newest(),
            Some(version) => head.version(version).ok_or_else(|| ReadError::no_version(&head, version))?,
        };
        let (row, index) = (row.clone(), Arc::new(index_from(stores, &from, &head, row).await?));
        match remember(options, stores, &head).await {
            Ok(warnings) => return Ok(Opened { head, head_file, row, index, warnings }),
            Err(StateError::Refused(_)) if overtaken < OVERTAKEN_MAX => overtaken += 1,
            Err(e) => return Err(options.refusal(&*from, e)),
        }
    }
}

/// Returns the newest acceptable head of an image, without an index, and records it.
///
/// # Errors
/// When no store has an acceptable head; the most telling reason is returned.
pub async fn open_head(stores: &[Arc<dyn Fetch>], options: &OpenOptions) -> Result<AcceptedHead, ReadError> {
    let mut overtaken = 0;
    loop {
        let Chosen { found: FoundHead { head, file: head_file, .. }, from, .. } = choose(stores, options).await?;
        match remember(options, stores, &head).await {
            Ok(warnings) => return Ok(AcceptedHead { head, head_file, warnings }),
            Err(StateError::Refused(_)) if overtaken < OVERTAKEN_MAX => overtaken += 1,
            Err(e) => return Err(options.refusal(&*from, e)),
        }
    }
}

async fn remember(options: &OpenOptions, stores: &[Arc<dyn Fetch>], head: &Head) -> Result<Vec<Warning>, StateError> {
    let (options, places, head) = (options.clone(), places(stores), head.clone());
    blocking(move || options.remember(&head, &places, now())).await
}

fn places(stores: &[Arc<dyn Fetch>]) -> Vec<String> {
    stores.iter().map(|store| place(&**store)).collect()
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// An acceptable head and the store it came from.
struct Chosen {
    found: FoundHead,
    warning: Option<Warning>,
    from: Arc<dyn Fetch>,
}

impl Chosen {
    /// Whether only a newer head is better.
    fn is_good(&self) -> bool {
        self.warning.is_none()
    }

    /// Ranking of heads: no rollback allowance needed, then newest version, then creation time.
    fn worth(&self) -> impl Ord + use<> {
        let allowed = matches!(self.warning, Some(Warning::Allowed(_)));
        (!allowed, self.found.head.newest().version, self.found.head.created)
    }
}

/// The best head so far, and how long to wait for a better one.
struct Choice {
    asked: Instant,
    best: Option<Chosen>,
    /// How many stores have the best head.
    alike: usize,
    /// Deadline for the remaining answers; `None` while they are needed.
    until: Option<Instant>,
}

impl Choice {
    /// No head yet; the first stores were asked at `now`.
    fn new(now: Instant) -> Self {
        Self { asked: now, best: None, alike: 0, until: None }
    }

    /// Adds an acceptable head that arrived at `now`.
    ///
    /// The nearest stores may lag, so all others get a fixed time. It is cut short once several agree; otherwise one
    /// hanging mirror would delay every opening by all of it.
    fn add(&mut self, chosen: Chosen, now: Instant) {
        if chosen.is_good() {
            self.until.get_or_insert(now + HEAD_WAIT);
        }
        match self.best.as_ref().map(|best| chosen.worth().cmp(&best.worth())) {
            Some(Ordering::Less) => return,
            Some(Ordering::Equal) => self.alike += 1,
            None | Some(Ordering::Greater) => (self.best, self.alike) = (Some(chosen), 1),
        }
        if self.alike == ASKED_FIRST {
            let agreed = now + (now - self.asked).max(AGREED_WAIT);
            self.until = self.until.map(|until| until.min(agreed));
        }
    }
}

/// The best acceptable head. Asks a few stores first, more until one has a good head, then all. A store without a head,
/// or with one that must not be accepted, does not count.
async fn choose(stores: &[Arc<dyn Fetch>], options: &OpenOptions) -> Result<Chosen, ReadError> {
    let options = Arc::new(options.clone());
    let history = {
        let options = Arc::clone(&options);
        Arc::new(blocking(move || options.history()).await?)
    };
    let places = Arc::new(places(stores));
    let ask = |store: &Arc<dyn Fetch>| {
        let (options, history, places) = (Arc::clone(&options), Arc::clone(&history), Arc::clone(&places));
        acceptable(Arc::clone(store), options, history, places)
    };
    let mut asked = Staggered::new(stores.iter().map(ask), ASKED_FIRST, HEAD_WAIT);
    let (mut choice, mut failed) = (Choice::new(Instant::now()), None);
    loop {
        let next = match choice.until {
            Some(until) => tokio::time::timeout_at(until, asked.next()).await.ok().flatten(),
            None => asked.next().await,
        };
        match next {
            None => break,
            Some(Err(e)) => e.add_to(&mut failed),
            Some(Ok(chosen)) => choice.add(chosen, Instant::now()),
        }
        if choice.until.is_some() {
            asked.start_all();
        }
    }
    choice.best.ok_or_else(|| failed.unwrap_or_else(ReadError::no_source))
}

/// Fetches and judges the head of one store.
async fn acceptable(
    store: Arc<dyn Fetch>,
    options: Arc<OpenOptions>,
    history: Arc<VersionHistory>,
    places: Arc<Vec<String>>,
) -> Result<Chosen, ReadError> {
    let found = head(&*store, &options.image, &options.trust).await?;
    let found = found.ok_or_else(|| ReadError::no_image(&*store, &options.image))?;
    match options.judge(&history, &found.head, &places, now()) {
        Ok(warning) => Ok(Chosen { found, warning, from: store }),
        Err(refused) => Err(options.refusal(&*store, refused.into())),
    }
}

/// The index of a version, from the first store that delivers it. The store of the head works and is asked first; the
/// others may take long to fail.
async fn index_from(
    stores: &[Arc<dyn Fetch>],
    from: &Arc<dyn Fetch>,
    head: &Head,
    row: &VersionRow,
) -> Result<Index, ReadError> {
    let others = stores.iter().filter(|store| !Arc::ptr_eq(store, from));
    let ask = |store: &Arc<dyn Fetch>| {
        let (store, image, row) = (Arc::clone(store), head.image.clone(), row.clone());
        async move { index(&*store, &image, &row).await }
    };
    first_of(std::iter::once(from).chain(others).map(ask), INDEX_WAIT).await
}

/// The first good answer: one request at a time, and a hedged one after each pause without a good answer.
pub(super) async fn first_of<T, F>(requests: impl IntoIterator<Item = F>, pause: Duration) -> Result<T, ReadError>
where
    F: Future<Output = Result<T, ReadError>> + Send + 'static,
    T: Send + 'static,
{
    let mut asked = Staggered::new(requests, 1, pause);
    let mut failed = None;
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(good) => return Ok(good),
            Err(e) => e.add_to(&mut failed),
        }
    }
    Err(failed.unwrap_or_else(ReadError::no_source))
}
