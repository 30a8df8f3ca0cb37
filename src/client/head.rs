//! Opens the head and the index of an image: from a mirror, or from the cache if none can be reached.

use std::time::{Duration, Instant};

use super::mirrors::Mirrors;
use super::notice::{Notice, Observer};
use super::source::mirrors::Mode;
use super::state::local_mirror::LocalMirror;
use crate::error::Error;
use crate::repo::{self, OpenOptions, Opened, ReadError, ReadErrorKind};
use crate::store::StoreErrorKind;

/// The first pause between two attempts to open an image; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long to wait for the cache to open an image.
const KEPT_MAX: Duration = Duration::from_secs(10);
/// How long to wait for the network in hard mode before opening from the cache.
const OFFLINE_AFTER: Duration = Duration::from_secs(10);
/// How long mirrors are asked again in soft mode before that: a mirror that is busy gets a second chance.
const BUSY_MAX: Duration = Duration::from_secs(1);

/// Opens a version of an image, and adds the mirrors named by its head. Soft mode asks mirrors that cannot be reached
/// again, as a read would. Hard mode does so after all temporary errors: a network that is not up yet, a captive portal.
///
/// # Errors
/// No mirror has an acceptable head, or none has the index.
pub async fn open(
    mirrors: &mut Mirrors,
    options: &OpenOptions,
    mode: Mode,
    observer: &dyn Observer,
) -> Result<Opened, Error> {
    Ok(from_mirrors(mirrors, options, Patience::of(mode), observer).await?)
}

/// Like [`open`], but opens the image from the local mirror `kept` if no mirror has a head.
///
/// # Errors
/// Those of [`open`], if the local mirror has nothing acceptable either.
pub async fn open_or_kept(
    mirrors: &mut Mirrors,
    options: &OpenOptions,
    mode: Mode,
    kept: &LocalMirror,
    observer: &dyn Observer,
) -> Result<Opened, Error> {
    let (patience, limit) = match Patience::of(mode) {
        Patience::Hard => (Patience::Hard, OFFLINE_AFTER),
        Patience::Soft(limit) => (Patience::Soft(limit.min(BUSY_MAX)), Duration::MAX),
    };
    let why = match tokio::time::timeout(limit, from_mirrors(mirrors, options, patience, observer)).await {
        Ok(Err(error)) if error.may_pass() => Some(error),
        Ok(opened) => return Ok(opened?),
        Err(_) => None,
    };
    match tokio::time::timeout(KEPT_MAX, kept.open(options, mirrors.places())).await {
        Ok(Ok(opened)) => {
            let why = why.map_or_else(|| "no answer in time".to_owned(), |why| why.to_string());
            observer.notice(Notice::OpenedFromCache { version: opened.row.version, why });
            Ok(accepted(mirrors, opened, observer))
        }
        _ => match why {
            Some(error) if !patience.is_worth_it(&error) => Err(error.into()),
            _ => open(mirrors, options, mode, observer).await,
        },
    }
}

/// How long mirrors are asked again.
#[derive(Debug, Clone, Copy)]
enum Patience {
    /// For ever.
    Hard,
    /// This long.
    Soft(Duration),
}

impl Patience {
    fn of(mode: Mode) -> Self {
        match mode {
            Mode::Hard => Self::Hard,
            Mode::Soft(limit) => Self::Soft(limit),
            Mode::Once => Self::Soft(Duration::ZERO),
        }
    }

    /// Whether another attempt may have another result. In soft mode somebody waits for the answer, and is told at once
    /// of a name or an authority that is wrong.
    fn is_worth_it(self, error: &ReadError) -> bool {
        let is_away = error.kind() == ReadErrorKind::Store(StoreErrorKind::Unreachable);
        match self {
            Self::Hard => error.may_pass(),
            Self::Soft(_) => is_away && !error.to_string().contains("invalid peer certificate"),
        }
    }

    /// Whether there is time for another attempt after `waited`.
    fn has_time(self, waited: Duration) -> bool {
        match self {
            Self::Hard => true,
            Self::Soft(limit) => waited < limit,
        }
    }
}

async fn from_mirrors(
    mirrors: &mut Mirrors,
    options: &OpenOptions,
    patience: Patience,
    observer: &dyn Observer,
) -> Result<Opened, ReadError> {
    let (started, mut pause, mut told) = (Instant::now(), FIRST_PAUSE, String::new());
    loop {
        let error = match repo::open(mirrors.stores(), options).await {
            Ok(opened) => return Ok(accepted(mirrors, opened, observer)),
            Err(error) => error,
        };
        if !patience.is_worth_it(&error) || !patience.has_time(started.elapsed() + pause) {
            return Err(error);
        }
        if told != error.to_string() {
            told = error.to_string();
            observer.notice(Notice::NotOpened { error });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Adds the mirrors named by the head, and reports its warnings.
fn accepted(mirrors: &mut Mirrors, opened: Opened, observer: &dyn Observer) -> Opened {
    mirrors.add_named(&opened.head);
    for warning in &opened.warnings {
        observer.notice(Notice::Accepted { image: opened.head.image.clone(), warning: warning.clone() });
    }
    opened
}
