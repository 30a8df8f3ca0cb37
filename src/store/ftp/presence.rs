//! Whether something is there: what a server's refusal leaves open is asked in another way.
//!
//! Most servers say in words that a file is missing, and that is that: one request. The others (vsftpd, FileZilla, rclone) say
//! the same of a file that cannot be opened. Then SIZE is asked, and where that is as unclear, whether its directory can be
//! entered: what is in such a directory SIZE would have found. A path whose directories are missing too is looked for in
//! the listing of the innermost one that is there.

use super::answer::{Answer, Failure};
use super::listing::{self, Listed};
use super::session::Session;
use crate::store::StoreErrorKind;

/// What a server says of a file.
enum Said {
    Bytes(u64),
    /// Something else than a file.
    NoFile,
    Missing,
    /// It may be missing.
    Unclear(Failure),
}

/// What became of an attempt to enter a directory.
enum Entered {
    Yes,
    No,
    Missing,
}

impl Session {
    /// Bytes of a file, `None` where there certainly is none.
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

    /// Whether a file can be moved to `path` without replacing one. One request: a server that does not find what is there
    /// could not replace it either, as both take the right to search its directory.
    pub async fn is_free(&mut self, path: &str) -> Result<bool, Failure> {
        Ok(matches!(self.said_of(path).await?, Said::Missing | Said::Unclear(_)))
    }

    /// The refusal to open the file at `path`, with what it means: that the file is missing, or that it is out of reach.
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

    /// The same of a server that has switched SIZE off.
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

    /// Whether nothing is at `path`; `asked` where the server was asked for the size of a file there and found none.
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
                // Listings leave such names out.
                Entered::Yes if name.starts_with('.') => return Ok(false),
                Entered::Yes => return Ok(!self.lists(name).await?),
                Entered::No if parent == "/" => return Ok(false),
                Entered::No => wanted = parent,
            }
        }
    }

    /// Enters a directory; the empty path is where the session is.
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

    /// Whether the directory that the session is in has this name in its listing.
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

    /// Where the session is.
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

/// The directory that a path lies in, and its name there.
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
