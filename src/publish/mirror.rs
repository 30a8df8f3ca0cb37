//! A mirror while it is being worked on: its store, its lock, the head it has.

use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;

use super::error::{Error, ErrorKind};
use crate::head::Trust;
use crate::mirrors::{Mirror, Mirrors, WritePlace};
use crate::name::Name;
use crate::read::{self, FoundHead, ReadErrorKind};
use crate::store::directory::Directory;
use crate::store::http::{Http, HttpClient};
use crate::store::{Fetch, Lock, Store, StoreErrorKind, lock};

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
    lock: Option<Box<dyn Lock>>,
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

    /// Whether it still takes part.
    pub fn is_up(&self) -> bool {
        self.failed.is_none()
    }
}

/// Opens the stores of all mirrors; relative directories are relative to `relative_to`.
///
/// # Errors
/// A protocol that this hfl does not speak.
pub fn open_all(mirrors: &Mirrors, relative_to: &Path) -> Result<Vec<OpenMirror>, Error> {
    let client = HttpClient::new()?;
    mirrors.mirrors.iter().map(|mirror| open(mirror, relative_to, &client)).collect()
}

/// The stores of all mirrors, to read from: through their public URLs where they have one.
///
/// # Errors
/// A protocol that this hfl does not speak.
pub fn readers(mirrors: &Mirrors, relative_to: &Path) -> Result<Vec<Arc<dyn Fetch>>, Error> {
    let opened = open_all(mirrors, relative_to)?;
    Ok(opened.into_iter().map(|m| m.public.unwrap_or(m.store)).collect())
}

fn open(config: &Mirror, relative_to: &Path, client: &HttpClient) -> Result<OpenMirror, Error> {
    let store: Arc<dyn Store> = match &config.write {
        WritePlace::Directory(path) => Arc::new(Directory::new(relative_to.join(path))),
        WritePlace::Remote(remote) => {
            let message = format!("mirror {}: this hfl cannot write to {}:// yet", config.name, remote.scheme);
            let advice = "write to a directory and copy it with the host's own tool";
            return Err(Error::new(ErrorKind::Usage, message).hint(advice));
        }
    };
    let read = config.read.clone().filter(|_| config.read_back);
    let public = read.map(|url| Arc::new(Http::new(client.clone(), url)) as Arc<dyn Fetch>);
    Ok(OpenMirror { config: config.clone(), store, public, head: None, failed: None, lock: None })
}

/// Locks every mirror; those that cannot be reached fail, the others go on.
///
/// # Errors
/// Another publisher holds one of them: then none is locked.
pub async fn lock_all(mirrors: &mut [OpenMirror]) -> Result<(), Error> {
    for mirror in mirrors.iter_mut() {
        match lock::lock(&*mirror.store).await {
            Ok(lock) => mirror.lock = Some(lock),
            Err(e) if e.kind() == StoreErrorKind::Locked => {
                let advice = "wait for it to end and run the same command again";
                return Err(Error::from(e).hint(advice));
            }
            Err(e) => mirror.fail(e.into()),
        }
    }
    Ok(())
}

/// Reads the head of `image` from every mirror.
///
/// A head that does not verify only costs that mirror its part in the work, as long as another one's does.
///
/// # Errors
/// Heads that do not verify, and none that does.
pub async fn read_heads(mirrors: &mut [OpenMirror], image: &Name, trust: &Trust) -> Result<(), Error> {
    let mut refused = None;
    let heads = join_all(mirrors.iter().map(|m| read::head(&*m.store, image, trust))).await;
    for (mirror, head) in mirrors.iter_mut().zip(heads).filter(|(m, _)| m.is_up()) {
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
