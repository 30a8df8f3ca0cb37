//! Opens the head and the index of an image: from a mirror, or from the cache if none can be reached.

use std::time::Duration;

use super::mirrors::Mirrors;
use super::notice::{Notice, Observer};
use super::source::mirrors::Mode;
use super::state::local_mirror::LocalMirror;
use crate::error::Error;
use crate::repo::{self, OpenOptions, Opened};

/// The longest pause between two attempts to open an image, in hard mode.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long to wait for the cache to open an image.
const KEPT_MAX: Duration = Duration::from_secs(10);
/// How long to wait for the network in hard mode before opening from the cache.
const OFFLINE_AFTER: Duration = Duration::from_secs(10);

/// Opens a version of an image, and adds the mirrors named by its head. Hard mode retries after temporary errors: a
/// network that is not up yet, a captive portal.
///
/// # Errors
/// No mirror has an acceptable head, or none has the index.
pub async fn open(
    mirrors: &mut Mirrors,
    options: &OpenOptions,
    mode: Mode,
    observer: &dyn Observer,
) -> Result<Opened, Error> {
    Ok(from_mirrors(mirrors, options, mode, observer).await?)
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
    let patience = if mode == Mode::Hard { OFFLINE_AFTER } else { Duration::MAX };
    let why = match tokio::time::timeout(patience, from_mirrors(mirrors, options, mode, observer)).await {
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
            Some(error) => Err(error.into()),
            None => open(mirrors, options, mode, observer).await,
        },
    }
}

async fn from_mirrors(
    mirrors: &mut Mirrors,
    options: &OpenOptions,
    mode: Mode,
    observer: &dyn Observer,
) -> Result<Opened, repo::ReadError> {
    let mut pause = Duration::from_millis(250);
    loop {
        let error = match repo::open(mirrors.stores(), options).await {
            Ok(opened) => return Ok(accepted(mirrors, opened, observer)),
            Err(error) => error,
        };
        if mode != Mode::Hard || !error.may_pass() {
            return Err(error);
        }
        if pause < PAUSE_MAX {
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
