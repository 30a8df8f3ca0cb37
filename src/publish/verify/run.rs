//! A check under way: the mirrors, their locks, what they are measured by, and the report at its end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::VerifyOptions;
use super::findings::Findings;
use super::objects::{Budget, Examined};
use super::problem::{Checked, VerifyReport};
use super::required::RequiredHeads;
use crate::error::{Error, ErrorKind};
use crate::format::name::Name;
use crate::progress::{Event, Watch};
use crate::publish::repository::mirror::OpenMirror;
use crate::publish::repository::{OpenRepository, Repository, Selection};
use crate::repo::survey::{Listing, VerifiedHead};
use crate::store::Fetch;

/// A check under way.
pub(super) struct Run {
    pub(super) options: VerifyOptions,
    /// The mirrors under check first.
    pub(super) repository: OpenRepository,
    /// How many are under check.
    pub(super) chosen: usize,
    pub(super) required: RequiredHeads,
    /// For each mirror, the heads whose promises it must keep.
    pub(super) duties: Vec<Vec<Arc<VerifiedHead>>>,
    pub(super) budget: Budget,
    /// For each mirror, whether it went away while others were repaired from it.
    away: Vec<AtomicBool>,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Run {
    pub(super) async fn open(mut repository: Repository, options: VerifyOptions, watch: Watch) -> Result<Self, Error> {
        let mirrors = &mut repository.mirrors.mirrors;
        if let Some(name) = options.only.iter().find(|name| !mirrors.iter().any(|m| m.name == **name)) {
            let names: Vec<&str> = mirrors.iter().map(|m| m.name.as_str()).collect();
            let error = Error::new(ErrorKind::Usage, format!("no enabled mirror is named {name}"));
            return Err(error.hint(format!("the mirrors are: {}", names.join(", "))));
        }
        let is_chosen = |name: &Name| options.only.is_empty() || options.only.contains(name);
        mirrors.sort_by_key(|m| !is_chosen(&m.name));
        let chosen = mirrors.iter().filter(|m| is_chosen(&m.name)).count();
        let away = mirrors.iter().map(|_| AtomicBool::new(false)).collect();
        // Nothing is locked where nothing is to be written.
        repository.dry_run = !options.repair;
        let look = Selection::at_all(options.images.iter().cloned(), Listing::Everything);
        let repository = OpenRepository::open(repository, options.policy.clone(), look, watch).await?;
        let (required, duties, budget) = Default::default();
        Ok(Self { options, repository, chosen, required, duties, budget, away })
    }

    pub(super) fn mirrors(&self) -> &[OpenMirror] {
        &self.repository.mirrors
    }

    /// Set when the user wants it to end.
    pub(super) fn cancel(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.repository.watch.cancel)
    }

    /// Tells the user what happens.
    pub(super) fn tell(&self, event: Event<'_>) {
        self.repository.watch.progress.event(event);
    }

    /// Lets the next one in.
    pub(super) async fn close(&mut self) {
        self.repository.close().await;
    }

    /// A mirror that went away takes no further part; anything else ends the check.
    pub(super) fn settle(&mut self, done: Vec<Result<(), Error>>) -> Result<(), Error> {
        for (mirror, done) in done.into_iter().enumerate() {
            match done {
                Err(e) if e.kind() == ErrorKind::Unreachable => self.repository.mirrors[mirror].fail(e),
                done => done?,
            }
        }
        Ok(())
    }

    pub(super) fn report(&self, ledgers: Vec<Findings>, started: Instant) -> VerifyReport {
        let (mut problems, mut mirrors) = (Vec::new(), Vec::new());
        for (mut findings, mirror) in ledgers.into_iter().zip(self.mirrors()) {
            findings.close();
            problems.extend(findings.list.iter().map(|finding| finding.problem(mirror.name())));
            let why = mirror.failed.as_ref().map(|failure| failure.why.clone());
            let (name, write) = (mirror.name().to_owned(), mirror.config.write.to_string());
            mirrors.push(Checked { name, write, why, ..findings.checked });
        }
        let names = |names: &BTreeSet<Name>| names.iter().map(Name::to_string).collect();
        VerifyReport {
            images: names(&self.required.images),
            unchecked: names(&self.required.unchecked),
            deep: self.options.deep,
            problems,
            mirrors,
            seconds: started.elapsed().as_secs_f64(),
        }
    }

    /// Whether every image of the repository is under check.
    pub(super) fn sees_all(&self) -> bool {
        self.options.images.is_empty() && self.required.unchecked.is_empty()
    }

    /// All mirrors but one.
    pub(super) fn others(&self, mirror: usize) -> impl Iterator<Item = usize> {
        (0..self.mirrors().len()).filter(move |&other| other != mirror)
    }

    /// A mirror to repair from; `None` where it is away.
    pub(super) fn source(&self, mirror: usize) -> Option<&dyn Fetch> {
        let up = self.mirrors()[mirror].is_up() && !self.away[mirror].load(Relaxed);
        up.then(|| &*self.mirrors()[mirror].store as &dyn Fetch)
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
        self.mirrors()[mirror].jobs()
    }
}
