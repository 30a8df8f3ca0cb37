//! From the arguments to an image that is open: its mirrors, its key, its version, and what was seen of it before.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hfl::head::Trust;
use hfl::mount::kept::Kept;
use hfl::mount::mirror_list;
use hfl::mount::network::Mode;
use hfl::mount::seen::{self, Verdict};
use hfl::mount::sources::Sources;
use hfl::read::source::{Base, Source};
use hfl::read::{self, Opened, ReadErrorKind};
use hfl::store::StoreErrorKind;
use hfl::store::http::{HttpClient, HttpOptions};
use hfl::time::Timestamp;
use hfl::url::BaseUrl;

use crate::failure::{Failure, LOCAL, UNREACHABLE, UNVERIFIED, USAGE};
use crate::log::Log;
use crate::origin::Origin;

/// The longest silence of a mirror before another one is asked in its place.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// The longest pause between two attempts to open an image, in hard mode.
const OPEN_PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long a network that is not there is waited for, in hard mode, before the cache is opened instead.
const OFFLINE_AFTER: Duration = Duration::from_secs(10);

/// The key, from a file or from the line itself.
pub fn trust(origin: &Origin) -> Result<Trust, Failure> {
    let Some(given) = &origin.key else { return Ok(Trust::Anyone) };
    let text = if Path::new(given).is_file() {
        std::fs::read_to_string(given).map_err(|e| Failure::new(LOCAL, format!("{given}: {e}")))?
    } else {
        given.clone()
    };
    let key = text.parse().map_err(|e| Failure::new(USAGE, format!("--key {given}: {e}")))?;
    Ok(Trust::Key(key))
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
    origin.cache.clone().or_else(|| home("XDG_CACHE_HOME", ".cache", "/var/cache/hfl"))
}

/// Opens the image; from what is kept of it where no mirror can be reached.
pub async fn open_or_kept(
    origin: &Origin,
    sources: &Sources,
    trust: &Trust,
    kept: Option<&Kept>,
    log: &Log,
) -> Result<Opened, Failure> {
    let Some(kept) = kept else { return open(origin, sources, trust, log).await };
    let image = &origin.sources[0].image;
    let patience = if origin.mode() == Mode::Hard { OFFLINE_AFTER } else { Duration::MAX };
    let why = match tokio::time::timeout(patience, open(origin, sources, trust, log)).await {
        Ok(Err(failure)) if failure.code() == UNREACHABLE => Some(failure),
        Ok(opened) => return opened,
        Err(_) => None,
    };
    match kept.open(image, trust, origin.version).await {
        Ok(opened) if may_use_kept(&opened, trust, sources) => {
            log.warn(format_args!("no mirror can be reached; version {} is opened from the cache", opened.row.version));
            Ok(opened)
        }
        _ => match why {
            Some(failure) => Err(failure),
            None => open(origin, sources, trust, log).await,
        },
    }
}

/// The cache may hold another image of the same name: a key tells them apart, or else what was seen before.
fn may_use_kept(opened: &Opened, trust: &Trust, sources: &Sources) -> bool {
    let seen = || seen::load(&state()?, &opened.head.image).ok();
    matches!(trust, Trust::Key(_)) || seen().is_some_and(|seen| seen.knows(&opened.head, trust, &sources.places()))
}

/// Where it is remembered what was seen.
fn state() -> Option<PathBuf> {
    home("XDG_STATE_HOME", ".local/state", "/var/lib/hfl")
}

/// Opens the image. Where a root file system hangs on it, a network that is not there yet is waited for.
pub async fn open(origin: &Origin, sources: &Sources, trust: &Trust, log: &Log) -> Result<Opened, Failure> {
    let image = &origin.sources[0].image;
    let mut pause = Duration::from_millis(250);
    loop {
        let error = match read::open(sources.stores(), image, trust, origin.version).await {
            Ok(opened) => return Ok(opened),
            Err(e) => e,
        };
        let network = error.kind() == ReadErrorKind::Store(StoreErrorKind::Unreachable);
        if origin.mode() != Mode::Hard || !network {
            return Err(error.into());
        }
        if pause < OPEN_PAUSE_MAX {
            log.warn(format_args!("{error}; trying again"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(OPEN_PAUSE_MAX);
    }
}

/// Directories of the command line as they are seen from everywhere.
fn absolute(sources: &[Source]) -> Vec<Source> {
    let absolute = |source: &Source| match &source.base {
        Base::Directory(path) => {
            let path = std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
            Source { base: path.map_or_else(|_| source.base.clone(), Base::Directory), image: source.image.clone() }
        }
        Base::Url(_) => source.clone(),
    };
    sources.iter().map(absolute).collect()
}

/// Takes in the mirrors that the head names; compares it with what was seen before, and remembers it.
pub fn check_seen(
    origin: &Origin,
    opened: &Opened,
    trust: &Trust,
    sources: &mut Sources,
    log: &Log,
) -> Result<(), Failure> {
    if !origin.only {
        sources.add_mirrors(&opened.head);
    }
    let (image, places) = (&opened.head.image, sources.places());
    let state = state();
    let mut seen = match state.as_deref().map_or(Ok(seen::Seen::default()), |state| seen::load(state, image)) {
        Ok(seen) => seen,
        Err(e) => {
            log.warn(format_args!("cannot tell which versions of {image} were seen before: {e}"));
            seen::Seen::default()
        }
    };
    let now = Timestamp::from_system(SystemTime::now());
    let verdict = seen.judge(&opened.head, trust, &places, now);
    match verdict.map_err(|refused| Failure::new(UNVERIFIED, format!("{image}: {refused}")))? {
        Verdict::Good => {}
        Verdict::Expired(at) => log.warn(format_args!("the head of {image} expired at {at}; is the clock right?")),
    }
    seen.remember(&opened.head, trust, &places);
    if let Some(Err(e)) = state.as_deref().map(|state| seen::store(state, image, &seen)) {
        log.warn(format_args!("cannot remember that version {} was seen: {e}", opened.head.newest().version));
    }
    Ok(())
}

/// Where this user's files of a kind belong: root's in a place of the system.
pub fn home(variable: &str, below_home: &str, roots: &str) -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(given) = absolute(variable) {
        return Some(given.join("hfl"));
    }
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from(roots));
    }
    Some(absolute("HOME")?.join(below_home).join("hfl"))
}
