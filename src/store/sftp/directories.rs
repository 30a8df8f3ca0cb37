//! Directories on the server: created for the first file in them, and remembered.
//!
//! Creation is pipelined with the first file and adds no round trip; whether it worked is known when that file is
//! renamed into place. New directories are readable for a web server, whatever the server's umask.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::failure::Failure;
use super::pending::Pending;
use super::session::Session;
use super::wire::{MKDIR, Reply, Request, SETSTAT, STAT};

/// Mode of new directories: every user may read and enter them.
const MODE: u32 = 0o755;

/// The directories known to exist.
#[derive(Debug, Default)]
pub struct Directories(Mutex<HashSet<String>>);

/// Directories requested from the server, each with its pending reply.
pub type Asked = Vec<(String, Pending)>;

impl Directories {
    /// Requests `directory` and its parents, parents first, except those known to exist.
    pub async fn ask(&self, session: &Session, directory: &str) -> Result<Asked, Failure> {
        let mut asked = Vec::new();
        for path in parents(directory).filter(|path| !self.knows(path)) {
            asked.push((path.to_owned(), session.send(mkdir(path)).await?));
        }
        Ok(asked)
    }

    /// Records the requested directories. A refusal is not a failure yet: mostly the directory already exists.
    pub async fn note(&self, session: &Session, asked: Asked) -> Result<(), Failure> {
        for (path, pending) in asked {
            if let Reply::Status { code: 0, .. } = pending.reply().await? {
                open_to_all(session, &path).await?;
            }
            self.lock().insert(path);
        }
        Ok(())
    }

    /// Creates `directory` and its parents one by one, whatever was known of them.
    pub async fn make(&self, session: &Session, directory: &str) -> Result<(), Failure> {
        self.lock().clear();
        for path in parents(directory) {
            match session.send(mkdir(path)).await?.done().await {
                Ok(()) => open_to_all(session, path).await?,
                Err(failure) => {
                    let there = session.send(Request::new(STAT).bytes(path.as_bytes())).await?.attributes().await;
                    there.map_err(|_| no_directory(path, failure))?;
                }
            }
            self.lock().insert(path.to_owned());
        }
        Ok(())
    }

    fn knows(&self, path: &str) -> bool {
        self.lock().contains(path)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn mkdir(path: &str) -> Request {
    Request::new(MKDIR).bytes(path.as_bytes()).mode(MODE)
}

/// Restores the bits that the server's umask removed from the mode of a new directory. A server's refusal is ignored.
async fn open_to_all(session: &Session, path: &str) -> Result<(), Failure> {
    let about = session.send(Request::new(STAT).bytes(path.as_bytes())).await?.attributes().await;
    let mode = about.ok().and_then(|about| about.mode).filter(|mode| mode & MODE != MODE);
    if let Some(mode) = mode {
        session.send(Request::new(SETSTAT).bytes(path.as_bytes()).mode(mode & 0o7777 | MODE)).await?.reply().await?;
    }
    Ok(())
}

/// Adds the directory to the failure.
fn no_directory(path: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Status { code, text } => {
            let text = if text.is_empty() { "no reason given".into() } else { text };
            Failure::Status { code, text: format!("{text}, making the directory {path}") }
        }
        other => other,
    }
}

/// `a/b/c` as `a`, `a/b` and itself, without the root and the home directory.
fn parents(directory: &str) -> impl Iterator<Item = &str> {
    let ends = directory.match_indices('/').map(|(at, _)| at).chain([directory.len()]);
    ends.map(|end| &directory[..end]).filter(|path| !path.is_empty() && *path != ".")
}

#[cfg(test)]
mod tests {
    use super::parents;

    #[test]
    fn parents_come_first() {
        let all = |path: &'static str| parents(path).collect::<Vec<_>>();
        assert_eq!(all("/srv/hfl/blocks"), ["/srv", "/srv/hfl", "/srv/hfl/blocks"]);
        assert_eq!(all("site/blocks"), ["site", "site/blocks"]);
        assert_eq!(all("./blocks"), ["./blocks"]);
    }
}
