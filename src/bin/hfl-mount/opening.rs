//! From the arguments to an image that is open: its mirrors, its key, its version, and what was seen of it before.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hfl::client::source::network::Mode;
use hfl::client::source::{Sources, mirror_list};
use hfl::client::state::kept::Kept;
use hfl::format::head::Trust;
use hfl::format::url::BaseUrl;
use hfl::repo;
use hfl::repo::source::{self, Base, Source};
use hfl::repo::{OpenOptions, Opened, StateDirectory, given_key, user_directory};
use hfl::store::http::{HttpClient, HttpOptions};

use crate::failure::{Failure, LOCAL, USAGE};
use crate::log::Log;
use crate::origin::Origin;

/// The longest silence of a mirror before another one is asked in its place.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// The longest pause between two attempts to open an image, in hard mode.
const OPEN_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long the cache may take to give what it keeps of an image.
const KEPT_MAX: Duration = Duration::from_secs(10);
/// How long a network that is not there is waited for, in hard mode, before the cache is opened instead.
const OFFLINE_AFTER: Duration = Duration::from_secs(10);

/// What is asked for, and what is accepted.
pub fn options(origin: &Origin) -> Result<OpenOptions, Failure> {
    let trust = match &origin.key {
        None => Trust::Anyone,
        Some(given) => Trust::Key(given_key(given).map_err(|e| Failure::new(USAGE, format!("--key: {e}")))?),
    };
    let options = OpenOptions::new(origin.sources[0].image.clone(), trust).version(origin.version);
    let options = options.state(StateDirectory::of_user()).allow_rollback(origin.allow_rollback);
    Ok(OpenOptions { follow_mirrors: !origin.only, ..options })
}

/// Everything that the command line names.
pub fn sources(origin: &Origin) -> Result<Sources, Failure> {
    let (proxy, ca_file) = (origin.proxy.clone(), origin.ca_file.clone());
    let options = HttpOptions { proxy, ca_file, silence_max: SILENCE_MAX };
    let client = HttpClient::with(&options).map_err(|e| Failure::new(USAGE, e))?;
    let listed = origin.mirrors.as_deref().map_or(Ok(Vec::new()), mirrors)?;
    let named: Vec<Source> = origin.sources.iter().filter(|s| !origin.names_alone(s)).cloned().collect();
    let mut sources = Sources::new(client, &absolute(&named));
    listed.into_iter().for_each(|url| sources.add(Base::Url(url)));
    Ok(sources)
}

/// The base URLs in a file.
fn mirrors(path: &Path) -> Result<Vec<BaseUrl>, Failure> {
    let fails = |code, why: &dyn std::fmt::Display| Failure::new(code, format!("{}: {why}", path.display()));
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| fails(LOCAL, &e))?;
    file.take(mirror_list::FILE_MAX_BYTES + 1).read_to_end(&mut text).map_err(|e| fails(LOCAL, &e))?;
    mirror_list::parse(&text).map_err(|e| fails(USAGE, &e))
}

/// Where blocks are cached.
pub fn cache_directory(origin: &Origin) -> Option<PathBuf> {
    origin.cache.clone().or_else(|| user_directory("XDG_CACHE_HOME", ".cache", "/var/cache/hfl"))
}

/// Opens the image; from what is kept of it where no mirror gives a head.
pub async fn open_or_kept(
    origin: &Origin,
    sources: &mut Sources,
    options: &OpenOptions,
    kept: Option<&Kept>,
    log: &Log,
) -> Result<Opened, Failure> {
    let Some(kept) = kept else { return open(origin, sources, options, log).await };
    let patience = if origin.mode() == Mode::Hard { OFFLINE_AFTER } else { Duration::MAX };
    let why = match tokio::time::timeout(patience, open(origin, sources, options, log)).await {
        Ok(Err(failure)) if failure.may_pass() => Some(failure),
        Ok(opened) => return opened,
        Err(_) => None,
    };
    match tokio::time::timeout(KEPT_MAX, kept.open(options, sources.places())).await {
        Ok(Ok(opened)) => {
            let version = opened.row.version;
            let reason = why.map_or_else(|| "no answer in time".to_owned(), |why| why.to_string());
            log.warn(format_args!("no mirror can be reached; version {version} is opened from the cache ({reason})"));
            Ok(accepted(origin, opened, sources, log))
        }
        _ => match why {
            Some(failure) => Err(failure),
            None => open(origin, sources, options, log).await,
        },
    }
}

/// Opens the image. Where a root file system hangs on it, whatever may pass is waited for: a network that is not there
/// yet, a router that answers with a page of its own.
pub async fn open(origin: &Origin, sources: &mut Sources, options: &OpenOptions, log: &Log) -> Result<Opened, Failure> {
    let mut pause = Duration::from_millis(250);
    loop {
        let error = match repo::open(sources.stores(), options).await {
            Ok(opened) => return Ok(accepted(origin, opened, sources, log)),
            Err(e) => e,
        };
        if origin.mode() != Mode::Hard || !error.may_pass() {
            return Err(error.into());
        }
        if pause < OPEN_PAUSE_MAX {
            log.warn(format_args!("{error}; trying again"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(OPEN_PAUSE_MAX);
    }
}

/// Takes in the mirrors that the head names, and says what there is to say of it.
fn accepted(origin: &Origin, opened: Opened, sources: &mut Sources, log: &Log) -> Opened {
    if !origin.only {
        sources.add_mirrors(&opened.head);
    }
    for warning in &opened.warnings {
        log.warn(format_args!("{}: {warning}", opened.head.image));
    }
    opened
}

/// Directories of the command line as they are seen from everywhere.
fn absolute(sources: &[Source]) -> Vec<Source> {
    let absolute = |source: &Source| match &source.base {
        Base::Directory(path) => Source { base: Base::Directory(source::absolute(path)), image: source.image.clone() },
        Base::Url(_) => source.clone(),
    };
    sources.iter().map(absolute).collect()
}
