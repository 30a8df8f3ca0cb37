//! The state of a check: the mirrors, their locks, the required heads, and the final report.

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

/// A running check.
pub(super) struct Run {
    pub(super) options: VerifyOptions,
    /// Lists the mirrors under check first.
    pub(super) repository: OpenRepository,
    /// Number of mirrors under check.
    pub(super) chosen: usize,
    pub(super) required: RequiredHeads,
    /// For each mirror, the heads whose promises it must keep.
    pub(super) duties: Vec<Vec<Arc<VerifiedHead>>>,
    pub(super) budget: Budget,
    /// For each mirror, whether it became unreachable while it served as a repair source.
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
            let error = Error::usage(format!("no enabled mirror is named {name}"));
            return Err(error.hint(format!("the mirrors are: {}", names.join(", "))));
        }
        let is_chosen = |name: &Name| options.only.is_empty() || options.only.contains(name);
        mirrors.sort_by_key(|m| !is_chosen(&m.name));
        let chosen = mirrors.iter().filter(|m| is_chosen(&m.name)).count();
        let away = mirrors.iter().map(|_| AtomicBool::new(false)).collect();
        // Without repair nothing is written, so no lock is needed.
        repository.dry_run = !options.repair;
        let look = Selection::at_all(options.images.iter().cloned(), Listing::Everything);
        let repository = OpenRepository::open(repository, options.policy.clone(), look, watch).await?;
        let (required, duties, budget) = Default::default();
        Ok(Self { options, repository, chosen, required, duties, budget, away })
    }

    pub(super) fn mirrors(&self) -> &[OpenMirror] {
        &self.repository.mirrors
    }

    /// Set when the user cancels.
    pub(super) fn cancel(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.repository.watch.cancel)
    }

    /// Reports progress to the user.
    pub(super) fn tell(&self, event: Event<'_>) {
        self.repository.watch.progress.event(event);
    }

    /// Releases the locks.
    pub(super) async fn close(&mut self) {
        self.repository.close().await;
    }

    /// An unreachable mirror takes no further part; any other error ends the check.
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

    /// All mirrors except this one.
    pub(super) fn others(&self, mirror: usize) -> impl Iterator<Item = usize> {
        (0..self.mirrors().len()).filter(move |&other| other != mirror)
    }

    /// A mirror to repair from; `None` if it is unreachable.
    pub(super) fn source(&self, mirror: usize) -> Option<&dyn Fetch> {
        let up = self.mirrors()[mirror].is_up() && !self.away[mirror].load(Relaxed);
        up.then(|| &*self.mirrors()[mirror].store as &dyn Fetch)
    }

    /// The result from a repair source, if intact. An unreachable source is not used again: each request would be slow.
    pub(super) fn good<T>(&self, mirror: usize, examined: Examined<T>) -> Option<T> {
        if examined.is_err() {
            self.away[mirror].store(true, Relaxed);
        }
        examined.ok()?.ok()
    }

    /// Concurrent requests per mirror.
    pub(super) fn jobs(&self, mirror: usize) -> usize {
        self.mirrors()[mirror].jobs()
    }
}
