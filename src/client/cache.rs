//! The disk cache of a client: where it is, and what happens if its disk is full, read-only or hangs. Then less is
//! cached and nothing else fails, unless the client's purpose is to fill the cache.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::notice::{Notice, Observer};
use super::source::disk_cache::{CacheError, DiskStore};
use super::state::local_mirror::LocalMirror;
use crate::error::{Error, ErrorKind};
use crate::format::head::Trust;
use crate::repo::Opened;
use crate::store::Fetch;

/// How long to wait for the disk, each time something needs it before the image can be read.
const DISK_MAX: Duration = Duration::from_secs(5);
/// How long to wait for the signature of the index; the image can be read without it.
const SIGNATURE_MAX: Duration = Duration::from_secs(5);

/// Where blocks are cached on disk.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// The cache directory.
    pub directory: PathBuf,
    /// Size limit in bytes.
    pub max_bytes: u64,
    /// What happens if the cache cannot be used.
    pub need: Need,
}

/// What happens if a cache cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The image is read without it.
    None,
    /// The same, but an error if the directory holds other files: it was probably named by mistake.
    Meant,
    /// An error: filling the cache is the client's purpose.
    Required,
}

/// An open cache.
#[derive(Debug, Clone)]
pub struct Cache {
    /// The block files.
    pub disk: Arc<DiskStore>,
    /// Head, index and signatures, which make the cache a mirror.
    pub kept: LocalMirror,
    /// Directory and limit.
    pub options: CacheOptions,
}

impl Cache {
    /// Opens the cache; `None` if it fails and is optional.
    ///
    /// # Errors
    /// It cannot be used, and is [needed](CacheOptions::need).
    pub async fn open(options: &CacheOptions, observer: &Arc<dyn Observer>) -> Result<Option<Self>, Error> {
        let directory = &options.directory;
        match open_store(directory, options.max_bytes, Arc::clone(observer)).await {
            Ok(disk) => {
                let kept = LocalMirror::new(&std::path::absolute(directory).unwrap_or_else(|_| directory.clone()));
                Ok(Some(Self { disk, kept, options: options.clone() }))
            }
            Err(error @ CacheError::NotACache(_)) if options.need != Need::None => Err(refused(directory, error)),
            Err(error) if options.need == Need::Required => Err(refused(directory, error)),
            Err(why) => {
                observer.notice(Notice::NotCached { directory: directory.clone(), why: why.to_string() });
                Ok(None)
            }
        }
    }

    /// Stores the head and the index of an image, and the signature of the index from `stores`: these make the cache a
    /// mirror.
    ///
    /// # Errors
    /// They cannot be stored, and the cache is [required](Need::Required).
    pub async fn keep(
        &self,
        opened: &Opened,
        stores: &[Arc<dyn Fetch>],
        trust: &Trust,
        observer: &dyn Observer,
    ) -> Result<(), Error> {
        let (kept, opened_too) = (self.kept.clone(), opened.clone());
        let keeping = tokio::task::spawn_blocking(move || kept.keep(&opened_too));
        let kept = match tokio::time::timeout(DISK_MAX, keeping).await {
            Ok(Ok(kept)) => kept.map_err(Some),
            // The disk does not answer.
            _ => Err(None),
        };
        if let Err(why) = kept {
            if self.options.need == Need::Required {
                return Err(refused(&self.options.directory, why.unwrap_or_else(late).into()));
            }
            if let Some(e) = why {
                observer.notice(Notice::CacheUnusable { why: e.to_string() });
            }
            return Ok(());
        }
        let _ = tokio::time::timeout(SIGNATURE_MAX, self.kept.keep_signature(stores, opened, trust)).await;
        Ok(())
    }
}

/// The error for a directory that is not used as a cache.
fn refused(directory: &Path, error: CacheError) -> Error {
    let is_foreign = matches!(error, CacheError::NotACache(_));
    let hint = is_foreign.then_some("name an empty or new directory with --cache, or empty this one");
    Error::caused(ErrorKind::Local, error).about(&format_args!("cache {}", directory.display())).hint_if(hint)
}

fn late() -> io::Error {
    io::Error::other(format!("it does not answer within {} s", DISK_MAX.as_secs()))
}

async fn open_store(
    directory: &Path,
    max_bytes: u64,
    observer: Arc<dyn Observer>,
) -> Result<Arc<DiskStore>, CacheError> {
    let place = directory.to_owned();
    let opening = tokio::task::spawn_blocking(move || DiskStore::open(&place, max_bytes, observer));
    tokio::time::timeout(DISK_MAX, opening).await.map_err(|_| late())?.map_err(io::Error::other)?
}
