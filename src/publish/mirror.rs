//! A mirror while it is being worked on: its store, its lock, the head it has.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};

use super::connect;
use super::error::{Error, ErrorKind};
use super::presence::Presence;
use crate::head::{FileRow, Trust};
use crate::mirrors::{Mirror, Mirrors};
use crate::name::Name;
use crate::read::{self, FoundHead, ReadErrorKind};
use crate::store::http::{Http, HttpClient};
use crate::store::{Fetch, Lock, Store, lock};

/// A mirror that was opened.
#[derive(Debug)]
pub struct OpenMirror {
    /// As mirrors.toml has it.
    pub config: Mirror,
    /// Where it is written to.
    pub store: Arc<dyn Store>,
    /// Where clients read it, if the publisher can read there too.
    pub public: Option<Arc<dyn Fetch>>,
    /// The head it had when the work began.
    pub head: Option<FoundHead>,
    /// Why it takes no further part, once something has failed.
    pub failed: Option<Failure>,
    /// What is believed about blocks that its head does not vouch for.
    pub presence: Presence,
    /// Whether it has what this run was to bring it.
    pub is_current: bool,
    /// Held while it is worked on.
    pub lock: Option<Box<dyn Lock>>,
}

/// Why a mirror was left behind.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What went wrong, for the program.
    pub kind: ErrorKind,
    /// What went wrong, as a sentence.
    pub why: String,
    /// What to do about it.
    pub advice: Option<String>,
}

impl OpenMirror {
    /// Its name.
    pub fn name(&self) -> &str {
        self.config.name.as_str()
    }

    /// Notes that it takes no further part; the first reason stays.
    pub fn fail(&mut self, error: Error) {
        let advice = error.advice().map(str::to_owned);
        let failure = Failure { kind: error.kind(), why: error.to_string(), advice };
        self.failed.get_or_insert(failure);
    }

    /// Makes certain that nobody else works on it.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where somebody does.
    pub async fn confirm(&self) -> Result<(), Error> {
        match &self.lock {
            Some(lock) => Ok(lock.confirm().await?),
            None => Ok(()),
        }
    }

    /// Whether somebody who had locked it died at work.
    pub fn is_unfinished(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.unfinished())
    }

    /// Whether it still takes part.
    pub fn is_up(&self) -> bool {
        self.failed.is_none()
    }
}

/// Opens the stores of all mirrors; relative directories are relative to `relative_to`.
///
/// # Errors
/// A protocol that this hfl does not speak.
pub async fn open_all(mirrors: &Mirrors, relative_to: &Path) -> Result<Vec<OpenMirror>, Error> {
    let client = HttpClient::new()?;
    try_join_all(mirrors.mirrors.iter().map(|mirror| open(mirror, relative_to, &client))).await
}

/// The stores of all mirrors, to read from: through their public URLs where they have one.
///
/// # Errors
/// A protocol that this hfl does not speak.
pub async fn readers(mirrors: &Mirrors, relative_to: &Path) -> Result<Vec<Arc<dyn Fetch>>, Error> {
    let opened = open_all(mirrors, relative_to).await?;
    Ok(opened.into_iter().map(|m| m.public.unwrap_or(m.store)).collect())
}

async fn open(config: &Mirror, relative_to: &Path, client: &HttpClient) -> Result<OpenMirror, Error> {
    let store = connect::store(config, relative_to).await?;
    let read = config.read.clone().filter(|_| config.read_back);
    let public = read.map(|url| Arc::new(Http::new(client.clone(), url)) as Arc<dyn Fetch>);
    let (head, failed, presence, is_current, lock) = (None, None, Presence::Unlikely, false, None);
    Ok(OpenMirror { config: config.clone(), store, public, head, failed, presence, is_current, lock })
}

/// Locks every mirror; those that cannot be reached fail, the others go on.
///
/// The first one that answers is locked alone: of publishers that meet, that decides. The rest follows at once.
///
/// # Errors
/// Another publisher holds one of them: then none stays locked.
pub async fn lock_all(mirrors: &mut [OpenMirror]) -> Result<(), Error> {
    let mut rest = &mut mirrors[..];
    while let Some((first, others)) = rest.split_first_mut() {
        rest = others;
        take_lock(first).await;
        match &first.failed {
            None => {
                join_all(rest.iter_mut().map(take_lock)).await;
                break;
            }
            // The other one is still taking the rest, and must not meet this one there.
            Some(failure) if failure.kind == ErrorKind::Conflict => break,
            Some(_) => {}
        }
    }
    let conflict = |m: &OpenMirror| m.failed.clone().filter(|f| f.kind == ErrorKind::Conflict);
    let Some(failure) = mirrors.iter().find_map(conflict) else { return Ok(()) };
    unlock_all(mirrors).await;
    Err(Error::new(failure.kind, failure.why).hint("wait for it to end and run the same command again"))
}

/// Lets the next publisher in. What one before had left undone stays so.
pub async fn unlock_all(mirrors: &mut [OpenMirror]) {
    let locks = mirrors.iter_mut().filter_map(|m| m.lock.take());
    join_all(locks.map(|lock| {
        let unfinished = lock.unfinished();
        lock.release(!unfinished)
    }))
    .await;
}

async fn take_lock(mirror: &mut OpenMirror) {
    match lock::lock(&mirror.store).await {
        Ok(lock) => mirror.lock = Some(lock),
        Err(e) => mirror.fail(e.into()),
    }
}

/// The reason why no mirror is left, if none is.
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

/// Reads the head of `image` from every mirror.
///
/// A head that does not verify only costs that mirror its part in the work, as long as another one's does.
///
/// # Errors
/// Heads that do not verify, and none that does.
pub async fn read_heads(mirrors: &mut [OpenMirror], image: &Name, trust: &Trust) -> Result<(), Error> {
    let mut refused = None;
    let up = || mirrors.iter().filter(|m| m.is_up());
    let heads = join_all(up().map(|m| read::head(&*m.store, image, trust))).await;
    for (mirror, head) in mirrors.iter_mut().filter(|m| m.is_up()).zip(heads) {
        match head {
            Ok(found) => mirror.head = found,
            Err(e) => {
                if e.kind() == ReadErrorKind::Unverified {
                    refused = Some(e.clone());
                }
                mirror.fail(e.into());
            }
        }
    }
    match refused {
        Some(e) if mirrors.iter().all(|m| m.head.is_none()) => {
            let advice = format!(
                "{image} is published here with another key, or its head is damaged; give its key with --key or HFL_KEY"
            );
            Err(Error::from(e).hint(advice))
        }
        _ => Ok(()),
    }
}

/// A file that a head names, from the first mirror that has it right.
///
/// # Errors
/// No mirror that has; a file that is larger than `max_bytes`.
pub async fn file(mirrors: &[OpenMirror], row: &FileRow, max_bytes: u64) -> Result<Bytes, Error> {
    let have_it = mirrors.iter().filter(|m| m.is_up() && m.head.is_some());
    let stores: Vec<Arc<dyn Fetch>> = have_it.map(|m| Arc::clone(&m.store) as Arc<dyn Fetch>).collect();
    let failed = |why| Error::new(ErrorKind::Unverified, format!("no mirror has a good copy of {}: {why}", row.path));
    read::file_from(&stores, row, max_bytes).await.map_err(failed)
}
