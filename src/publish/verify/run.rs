//! A check under way: the mirrors, their locks, what they are measured by, and the report at its end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use super::VerifyOptions;
use super::examine::{Budget, Examined};
use super::heads::Believed;
use super::ledger::Ledger;
use super::problem::{Checked, VerifyReport};
use super::roster::Roster;
use crate::name::Name;
use crate::publish::error::{Error, ErrorKind};
use crate::publish::mirror::{self, OpenMirror};
use crate::publish::progress::{Event, Progress};
use crate::store::Fetch;

/// A check under way.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) options: VerifyOptions,
    /// Those under check first.
    pub(super) mirrors: Vec<OpenMirror>,
    /// How many are under check.
    pub(super) chosen: usize,
    pub(super) roster: Roster,
    /// For each mirror, the heads whose promises it must keep.
    pub(super) duty: Vec<Vec<Arc<Believed>>>,
    pub(super) budget: Budget,
    /// For each mirror, whether it went away while others were healed from it.
    away: Vec<AtomicBool>,
    pub(super) progress: Tell,
}

/// Who is told.
pub(super) struct Tell(Arc<dyn Progress>);

impl std::fmt::Debug for Tell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tell")
    }
}

impl Tell {
    pub(super) fn event(&self, event: Event<'_>) {
        self.0.event(event);
    }
}

impl Run {
    pub(super) async fn open(options: VerifyOptions, progress: Arc<dyn Progress>) -> Result<Self, Error> {
        let mut mirrors = mirror::open_all(&options.mirrors, &options.relative_to).await?;
        if let Some(name) = options.only.iter().find(|name| !mirrors.iter().any(|m| m.config.name == **name)) {
            let names: Vec<&str> = mirrors.iter().map(OpenMirror::name).collect();
            let error = Error::new(ErrorKind::Usage, format!("no enabled mirror is named {name}"));
            return Err(error.hint(format!("the mirrors are: {}", names.join(", "))));
        }
        if options.repair {
            mirror::lock_all(&mut mirrors).await?;
        }
        let is_chosen = |m: &OpenMirror| options.only.is_empty() || options.only.contains(&m.config.name);
        mirrors.sort_by_key(|m| !is_chosen(m));
        let chosen = mirrors.iter().filter(|m| is_chosen(m)).count();
        let away = mirrors.iter().map(|_| AtomicBool::new(false)).collect();
        let (roster, duty, budget) = Default::default();
        Ok(Self { options, mirrors, chosen, roster, duty, budget, away, progress: Tell(progress) })
    }

    /// Lets the next one in.
    pub(super) async fn close(&mut self) {
        mirror::unlock_all(&mut self.mirrors).await;
    }

    /// A mirror that went away takes no further part; anything else ends the check.
    pub(super) fn settle(&mut self, done: Vec<Result<(), Error>>) -> Result<(), Error> {
        for (mirror, done) in done.into_iter().enumerate() {
            match done {
                Err(e) if e.kind() == ErrorKind::Unreachable => self.mirrors[mirror].fail(e),
                done => done?,
            }
        }
        Ok(())
    }

    pub(super) fn report(&self, ledgers: Vec<Ledger>, started: Instant) -> VerifyReport {
        let (mut problems, mut mirrors) = (Vec::new(), Vec::new());
        for (mut ledger, mirror) in ledgers.into_iter().zip(&self.mirrors) {
            ledger.close();
            problems.extend(ledger.findings.iter().map(|finding| finding.problem(mirror.name())));
            let why = mirror.failed.as_ref().map(|failure| failure.why.clone());
            let (name, write) = (mirror.name().to_owned(), mirror.config.write.to_string());
            mirrors.push(Checked { name, write, why, ..ledger.checked });
        }
        let names = |names: &BTreeSet<Name>| names.iter().map(Name::to_string).collect();
        VerifyReport {
            images: names(&self.roster.images),
            unchecked: names(&self.roster.unchecked),
            deep: self.options.deep,
            problems,
            mirrors,
            seconds: started.elapsed().as_secs_f64(),
        }
    }

    /// Whether every image of the repository is under check.
    pub(super) fn sees_all(&self) -> bool {
        self.options.images.is_empty() && self.roster.unchecked.is_empty()
    }

    /// All mirrors but one.
    pub(super) fn others(&self, mirror: usize) -> impl Iterator<Item = usize> {
        (0..self.mirrors.len()).filter(move |&other| other != mirror)
    }

    /// A mirror to heal from; `None` where it is away.
    pub(super) fn source(&self, mirror: usize) -> Option<&dyn Fetch> {
        let up = self.mirrors[mirror].is_up() && !self.away[mirror].load(Relaxed);
        up.then(|| &*self.mirrors[mirror].store as &dyn Fetch)
    }

    /// What a source had, if that was right. One that went away is not asked again: each question would take long.
    pub(super) fn good<T>(&self, mirror: usize, examined: Examined<T>) -> Option<T> {
        if examined.is_err() {
            self.away[mirror].store(true, Relaxed);
        }
        examined.ok()?.ok()
    }

    /// How many objects of a mirror are best under way at the same time.
    pub(super) fn jobs(&self, mirror: usize) -> usize {
        let mirror = &self.mirrors[mirror];
        mirror.config.jobs.map_or(mirror.store.jobs(), |jobs| jobs as usize)
    }
}
