//! The cache of a mount: where it is, and what becomes of it where its disk is full, read-only or does not answer, which
//! is never more than that less is cached.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hfl::client::notice::{Notice, Observer};
use hfl::client::source::disk::{CacheError, DiskStore};
use hfl::client::state::kept::Kept;
use hfl::format::head::Trust;
use hfl::repo::Opened;
use hfl::store::Fetch;

use crate::args::Args;
use crate::failure::{Failure, LOCAL};
use crate::log::Log;
use crate::opening::cache_directory;

/// How long the disk is waited for, each time that something needs it before the mount works.
const DISK_MAX: Duration = Duration::from_secs(5);
/// How long the signature of the index may take to come; the image can be read without it.
pub const SIGNATURE_MAX: Duration = Duration::from_secs(5);

/// The disk cache, unless it is not wanted or cannot be had.
///
/// # Errors
/// A directory with files that are no cache's. A machine whose root file system this is to be starts without a cache.
pub async fn open(args: &Args, log: &Arc<Log>) -> Result<Option<(Arc<DiskStore>, Kept)>, Failure> {
    if args.no_cache || args.origin.caches_nothing() {
        return Ok(None);
    }
    let Some(directory) = cache_directory(&args.origin) else { return Ok(None) };
    match opened(&directory, args.origin.cache_size, Arc::clone(log) as _).await {
        Ok(store) => Ok(Some((store, Kept::new(&std::path::absolute(&directory).unwrap_or(directory))))),
        Err(error @ CacheError::NotACache(_)) if !args.root => Err(refused(&directory, error)),
        Err(why) => {
            log.warn(format_args!("cache {}: {why}; nothing is cached on disk", directory.display()));
            Ok(None)
        }
    }
}

/// Why a directory is not used as a cache.
pub fn refused(directory: &Path, error: CacheError) -> Failure {
    let failure = Failure::new(LOCAL, format!("cache {}: {error}", directory.display()));
    match error {
        CacheError::NotACache(_) => failure.hint("name an empty or new directory with --cache, or empty this one"),
        CacheError::Io(_) => failure,
    }
}

async fn opened(directory: &Path, limit: u64, observer: Arc<dyn Observer>) -> Result<Arc<DiskStore>, CacheError> {
    let place = directory.to_owned();
    let opening = tokio::task::spawn_blocking(move || DiskStore::open(&place, limit, observer));
    let late = || io::Error::other(format!("it does not answer within {} s", DISK_MAX.as_secs()));
    tokio::time::timeout(DISK_MAX, opening).await.map_err(|_| late())?.map_err(io::Error::other)?
}

/// Keeps what makes the cache a mirror.
pub async fn keep(kept: Kept, opened: Opened, stores: Vec<Arc<dyn Fetch>>, trust: Trust, log: Arc<Log>) {
    let (its, opened) = (kept.clone(), Arc::new(opened));
    let whose = Arc::clone(&opened);
    let keeping = tokio::task::spawn_blocking(move || its.keep(&whose));
    match tokio::time::timeout(DISK_MAX, keeping).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(e))) => return log.notice(Notice::CacheUnusable { why: e.to_string() }),
        // A disk that does not answer.
        _ => return,
    }
    let _ = tokio::time::timeout(SIGNATURE_MAX, kept.keep_signature(&stores, &opened, &trust)).await;
}
