//! Writing an object: stored under a temporary name, checked for its size, renamed.

use std::sync::atomic::Ordering;

use super::Inner;
use super::answer::Failure;
use super::session::Session;
use crate::format::layout::{RepoPath, TEMPORARY};
use crate::store::StoreErrorKind;
use crate::store::arrival::all_arrived;

/// "Requested action aborted: local error in processing."
const LOCAL_ERROR: u32 = 451;
/// A size that fails to fit only on a full disk, in bytes.
const SMALL_BYTES: usize = 4096;

impl Inner {
    /// Creates the directory at `relative` and its parents, once each. Replies for an existing directory vary too much
    /// to be evaluated: a missing directory is detected by the write that follows.
    async fn make(&self, session: &mut Session, relative: &str) -> Result<(), Failure> {
        let directory = self.path(relative);
        if directory.is_empty() || self.made.lock().is_ok_and(|made| made.contains(&directory)) {
            return Ok(());
        }
        let ends = directory.match_indices('/').map(|(i, _)| i).chain([directory.len()]);
        for part in ends.map(|end| &directory[..end]).filter(|part| !part.is_empty()) {
            if self.made.lock().is_ok_and(|made| made.contains(part)) {
                continue;
            }
            let answer = session.ask(&format!("MKD {part}")).await?;
            if answer.code == 421 {
                return Err(answer.refusal());
            }
            if let Ok(mut made) = self.made.lock() {
                made.insert(part.to_owned());
            }
        }
        Ok(())
    }

    /// Stores `bytes` under a temporary name, verifies their size, and renames the file to `path`.
    pub(super) async fn write(&self, session: &mut Session, path: &RepoPath, bytes: &[u8]) -> Result<(), Failure> {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = self.path(&format!("{TEMPORARY}/{:016x}-{number}", self.run));
        let written = self.write_by_way_of(session, &temporary, path, bytes).await;
        if written.is_err() {
            // A directory may have been removed meanwhile.
            if let Ok(mut made) = self.made.lock() {
                made.clear();
            }
            if session.is_settled() {
                let _ = session.ask(&format!("DELE {temporary}")).await;
            }
        }
        written
    }

    async fn write_by_way_of(
        &self,
        session: &mut Session,
        temporary: &str,
        path: &RepoPath,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        self.make(session, TEMPORARY).await?;
        if let Err(failure) = session.store(temporary, bytes).await {
            return Err(why_not_stored(session, temporary, failure).await);
        }
        let there = session.size(temporary).await?.unwrap_or(0);
        all_arrived(there, bytes.len() as u64).map_err(|why| Failure::new(StoreErrorKind::Unreachable, why))?;
        let parent = path.as_str().rsplit_once('/').map_or("", |(parent, _)| parent);
        self.make(session, parent).await?;
        let answer = session.ask(&format!("RNFR {temporary}")).await?;
        if answer.code != 350 {
            return Err(answer.refusal());
        }
        let answer = session.ask(&format!("RNTO {}", self.path(path.as_str()))).await?;
        if !answer.is_done() && answer.says_exists() {
            let why = format!(
                "the server does not let an object be replaced by renaming another ({} {})",
                answer.code, answer.text
            );
            return Err(Failure::new(StoreErrorKind::Protocol, why));
        }
        if answer.is_done() { Ok(()) } else { Err(answer.refusal()) }
    }
}

/// Detects a full disk behind a "local error": after the write that filled the disk, proftpd reports an input/output
/// error, and vsftpd reports only a failure. While the partial file still exists, a small file must fail too.
async fn why_not_stored(session: &mut Session, temporary: &str, failure: Failure) -> Failure {
    if failure.code != LOCAL_ERROR || !session.is_settled() {
        return failure;
    }
    let small = format!("{temporary}-small");
    let stored = session.store(&small, &[0; SMALL_BYTES]).await;
    if session.is_settled() {
        let _ = session.ask(&format!("DELE {small}")).await;
    }
    match stored {
        Err(again) if again.kind == StoreErrorKind::Full => again,
        Err(again) if again.code == LOCAL_ERROR => {
            let why = format!("{}, to {SMALL_BYTES} bytes too: its disk must be full", failure.why);
            Failure { kind: StoreErrorKind::Full, why, ..failure }
        }
        _ => failure,
    }
}
