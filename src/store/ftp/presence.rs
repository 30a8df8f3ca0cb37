//! Whether a file exists: resolves ambiguous refusals with further requests.
//!
//! Most servers state clearly that a file is missing: one request. The others (vsftpd, FileZilla, rclone) answer the
//! same for a file that cannot be opened. Then SIZE is sent. If that is ambiguous too, CWD to the file's directory
//! decides: in a directory that can be entered, SIZE would have found the file. If directories of the path are missing
//! too, the listing of the innermost existing one decides.

use super::answer::{Answer, Failure};
use super::listing::{self, Listed};
use super::session::Session;
use crate::store::StoreErrorKind;

/// The server's reply about a file.
enum Said {
    Bytes(u64),
    /// Exists, but is not a file.
    NoFile,
    Missing,
    /// May be missing.
    Unclear(Failure),
}

/// The result of CWD to a directory.
enum Entered {
    Yes,
    No,
    Missing,
}

impl Session {
    /// Size of a file in bytes; `None` if it certainly does not exist.
    pub async fn size(&mut self, path: &str) -> Result<Option<u64>, Failure> {
        match self.said_of(path).await? {
            Said::Bytes(bytes) => Ok(Some(bytes)),
            Said::NoFile | Said::Missing => Ok(None),
            Said::Unclear(refusal) => match self.is_missing(path, true).await? {
                true => Ok(None),
                false => Err(refusal),
            },
        }
    }

    /// Whether a file can be renamed to `path` without replacing one. One request suffices: a server that cannot find
    /// an existing file cannot replace it either, as both need search permission on its directory.
    pub async fn is_free(&mut self, path: &str) -> Result<bool, Failure> {
        Ok(matches!(self.said_of(path).await?, Said::Missing | Said::Unclear(_)))
    }

    /// The refusal to open the file at `path`, with its meaning resolved: missing or inaccessible.
    pub async fn explained(&mut self, path: &str, refusal: Failure) -> Result<Failure, Failure> {
        if !refusal.unclear {
            return Ok(refusal);
        }
        let missing = match self.said_of(path).await? {
            Said::Missing => true,
            Said::Unclear(_) => self.is_missing(path, true).await?,
            Said::Bytes(_) | Said::NoFile => {
                let why = format!("it is there and cannot be read: {}", refusal.why);
                return Ok(Failure { kind: StoreErrorKind::Denied, why, ..refusal });
            }
        };
        let kind = if missing { StoreErrorKind::NotFound } else { StoreErrorKind::Denied };
        Ok(Failure { kind, ..refusal })
    }

    /// Whether a directory that could not be listed is missing.
    pub async fn is_missing_directory(&mut self, path: &str, refusal: &Failure) -> Result<bool, Failure> {
        match refusal.unclear {
            true => self.is_missing(path, false).await,
            false => Ok(refusal.kind == StoreErrorKind::NotFound),
        }
    }

    async fn said_of(&mut self, path: &str) -> Result<Said, Failure> {
        let answer = self.ask(&format!("SIZE {path}")).await?;
        match answer.code {
            213 => answer.text.parse().map(Said::Bytes).map_err(|_| nonsense("SIZE", &answer.text)),
            _ if answer.is_unknown_command() && self.machine => self.said_in_facts(path).await,
            _ => refused(answer.refusal()),
        }
    }

    /// The same with MLST, for a server without SIZE.
    async fn said_in_facts(&mut self, path: &str) -> Result<Said, Failure> {
        let response = self.response(&format!("MLST {path}")).await?;
        let answer = Answer::from(&response);
        if !answer.is_done() {
            return refused(answer.refusal());
        }
        let body = String::from_utf8_lossy(&response.body);
        let facts = body.lines().nth(1).map(str::trim_start).unwrap_or_default();
        match listing::machine_line(facts) {
            Some(Listed::File(_, bytes)) => Ok(Said::Bytes(bytes)),
            Some(_) => Ok(Said::NoFile),
            None => Err(nonsense("MLST", &answer.text)),
        }
    }

    /// Whether nothing exists at `path`; `asked` if SIZE of that path has already failed.
    async fn is_missing(&mut self, path: &str, asked: bool) -> Result<bool, Failure> {
        let home = self.working_directory().await?;
        let missing = self.search(path.trim_end_matches('/'), asked).await;
        if !self.ask(&format!("CWD {home}")).await.is_ok_and(|answer| answer.is_done()) {
            self.astray = true;
            return Err(Failure::new(StoreErrorKind::Unreachable, "the server does not return to its own directory"));
        }
        missing
    }

    async fn search(&mut self, path: &str, asked: bool) -> Result<bool, Failure> {
        let mut wanted = path;
        loop {
            let (parent, name) = parent(wanted);
            match self.enter(parent).await? {
                Entered::Missing => return Ok(true),
                Entered::Yes if asked && wanted == path => return Ok(true),
                // Listings omit hidden names.
                Entered::Yes if name.starts_with('.') => return Ok(false),
                Entered::Yes => return Ok(!self.lists(name).await?),
                Entered::No if parent == "/" => return Ok(false),
                Entered::No => wanted = parent,
            }
        }
    }

    /// Enters a directory; the empty path is the current one.
    async fn enter(&mut self, directory: &str) -> Result<Entered, Failure> {
        if directory.is_empty() {
            return Ok(Entered::Yes);
        }
        let answer = self.ask(&format!("CWD {directory}")).await?;
        match answer.kind() {
            _ if answer.is_done() => Ok(Entered::Yes),
            StoreErrorKind::NotFound => Ok(Entered::Missing),
            _ if answer.code == 421 => Err(answer.refusal()),
            _ => Ok(Entered::No),
        }
    }

    /// Whether the listing of the current directory has this name.
    async fn lists(&mut self, name: &str) -> Result<bool, Failure> {
        let mut found = false;
        let listed = self.list("", |listed| {
            found |= match listed {
                Listed::File(other, _) | Listed::Directory(other) => other == name,
                Listed::Other => false,
            };
            Ok(())
        });
        listed.await?;
        Ok(found)
    }

    /// The current directory of the session.
    async fn working_directory(&mut self) -> Result<String, Failure> {
        let response = self.response("PWD").await?;
        let body = String::from_utf8_lossy(&response.body);
        let quoted = body.trim_end().split_once('"').and_then(|(_, rest)| rest.rsplit_once('"'));
        let plain = quoted.map(|(path, _)| path.replace("\"\"", "\""));
        let plain = plain.filter(|path| !path.is_empty() && !path.contains(['\r', '\n']));
        plain.ok_or_else(|| nonsense("PWD", &Answer::from(&response).text))
    }
}

fn refused(refusal: Failure) -> Result<Said, Failure> {
    match refusal.kind {
        _ if refusal.unclear => Ok(Said::Unclear(refusal)),
        StoreErrorKind::NotFound => Ok(Said::Missing),
        _ => Err(refusal),
    }
}

/// Splits a path into its parent directory and name.
fn parent(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((parent, name)) => (parent, name),
        None => ("", path),
    }
}

fn nonsense(verb: &str, text: &str) -> Failure {
    Failure::new(StoreErrorKind::Protocol, format!("{verb} was answered with {text}"))
}
