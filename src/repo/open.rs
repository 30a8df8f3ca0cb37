//! Opens an image from several stores. The one place that decides what a reader accepts: a head that is believed, not
//! older than what was seen before, and not expired; and the index that it names.

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

/// How many stores are asked for a head at the same time, and how many more each time that none of them had a good one
/// after this time. Once there is a good one all of them are, and so many that have the same are believed to be current.
const HEADS_AT_ONCE: usize = 3;
/// See [`HEADS_AT_ONCE`]. Once there is a good head, the others may still answer for so long: a newer one is worth no more.
const HEAD_WAIT: Duration = Duration::from_secs(2);
/// The least that the others get once [`HEADS_AT_ONCE`] stores have the same head; they get as long as those took.
const AGREED_WAIT: Duration = Duration::from_millis(250);
/// How long the index may take until another store is asked for it as well. On a slow connection two are slower than one.
const INDEX_WAIT: Duration = Duration::from_secs(5);
/// How often an image is opened again because another reader on this machine has seen a newer version meanwhile.
const OVERTAKEN_MAX: usize = 3;

/// A head that was accepted.
#[derive(Debug, Clone)]
pub struct AcceptedHead {
    /// What it says.
    pub head: Head,
    /// Its file.
    pub head_file: Bytes,
    /// What the user should know of it.
    pub warnings: Vec<Warning>,
}

/// An image as a reader opened it: one version, accepted.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The head that vouches for it.
    pub head: Head,
    /// Its file.
    pub head_file: Bytes,
    /// The row of the version.
    pub row: VersionRow,
    /// Its index.
    pub index: Arc<Index>,
    /// What the user should know of it.
    pub warnings: Vec<Warning>,
}

/// Opens an image from the stores: the newest acceptable head of them counts, and the index comes from any that has it.
/// What was accepted is remembered.
///
/// # Errors
/// When no store has a head that is acceptable, or none the index; the most telling reason is given.
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

/// The newest acceptable head of an image, which is remembered, without an index.
///
/// # Errors
/// When no store has a head that is acceptable; the most telling reason is given.
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

/// An acceptable head, and the store that it came from.
struct Chosen {
    found: FoundHead,
    warning: Option<Warning>,
    from: Arc<dyn Fetch>,
}

impl Chosen {
    /// Whether nothing is better but a newer one.
    fn is_good(&self) -> bool {
        self.warning.is_none()
    }

    /// What makes one better than another: not to need a permission, its newest version, its age.
    fn worth(&self) -> impl Ord + use<> {
        let allowed = matches!(self.warning, Some(Warning::Allowed(_)));
        (!allowed, self.found.head.newest().version, self.found.head.created)
    }
}

/// The best of the heads that have come, and how long to wait for a better one.
struct Choice {
    asked: Instant,
    best: Option<Chosen>,
    /// How many stores have this one.
    alike: usize,
    /// When it was decided without those that have not answered; `None` as long as they are needed.
    until: Option<Instant>,
}

impl Choice {
    /// Nothing has come yet; the first stores were asked at `now`.
    fn new(now: Instant) -> Self {
        Self { asked: now, best: None, alike: 0, until: None }
    }

    /// One more acceptable head, which came at `now`.
    ///
    /// Stores that lag may be the nearest ones, so all others get a fixed time. It is cut short where several agree, or
    /// one mirror that hangs would delay every opening by all of it.
    fn add(&mut self, chosen: Chosen, now: Instant) {
        if chosen.is_good() {
            self.until.get_or_insert(now + HEAD_WAIT);
        }
        match self.best.as_ref().map(|best| chosen.worth().cmp(&best.worth())) {
            Some(Ordering::Less) => return,
            Some(Ordering::Equal) => self.alike += 1,
            None | Some(Ordering::Greater) => (self.best, self.alike) = (Some(chosen), 1),
        }
        if self.alike == HEADS_AT_ONCE {
            let agreed = now + (now - self.asked).max(AGREED_WAIT);
            self.until = self.until.map(|until| until.min(agreed));
        }
    }
}

/// The best acceptable head. A few stores are asked at first, and more until one has a good head, then all; one that has
/// none, or one that must not be accepted, does not count.
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
    let mut asked = Staggered::new(stores.iter().map(ask), HEADS_AT_ONCE, HEAD_WAIT);
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

/// The head of one store, judged.
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

/// The index of a version, from the first store that gives it. The one that the head came from works, and is asked
/// first; the others may take their time to show that they do not.
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

/// The first good answer: one request at a time, and another one besides whenever none was good after a pause.
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
