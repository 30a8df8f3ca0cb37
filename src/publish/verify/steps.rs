//! The steps of a check in order: heads, then the files they name, then blocks; repair last.

use std::collections::BTreeSet;
use std::time::Instant;

use futures_util::future::join_all;

use super::expected::ExpectedBlocks;
use super::findings::{Finding, Findings};
use super::problem::VerifyReport;
use super::required::RequiredHeads;
use super::run::Run;
use super::{blocks, files, public, repair, retired, seeds, strays};
use crate::error::{Error, ErrorKind};
use crate::format::layout::RepoPath;
use crate::format::name::Name;
use crate::progress::{Event, Phase};
use crate::publish::repository::mirror;
use crate::repo::survey::{HeadState, MirrorView};

impl Run {
    pub(super) async fn work(&mut self) -> Result<VerifyReport, Error> {
        let started = Instant::now();
        self.refuse_all_failed()?;
        self.take_stock()?;
        self.judge_newest().await?;
        let mut ledgers: Vec<Findings> = (0..self.chosen).map(|_| Findings::default()).collect();
        for (findings, view) in ledgers.iter_mut().zip(self.views()) {
            findings.add(view.iter().flat_map(|view| self.required.judge(view)));
            findings.checked.objects += view.iter().map(|view| 1 + view.heads.len() as u64).sum::<u64>();
        }
        let expected = self.check_files(&mut ledgers).await?;
        self.check_blocks(&expected, &mut ledgers).await?;
        if self.options.repair {
            self.tell(Event::Phase(Phase::Repair));
            seeds::repair(self, &expected, &mut ledgers).await?;
            self.repair(&mut ledgers).await;
        }
        Ok(self.report(ledgers, started))
    }

    /// The view of each mirror; `None` if the mirror has failed.
    fn views(&self) -> Vec<Option<&MirrorView>> {
        let views = self.mirrors().iter().zip(&self.repository.views);
        views.map(|(mirror, view)| mirror.is_up().then_some(view)).collect()
    }

    /// Fails if no mirror under check is left.
    fn refuse_all_failed(&self) -> Result<(), Error> {
        let others = &self.mirrors()[self.chosen..];
        for other in others.iter().filter_map(|m| m.failed.as_ref().map(|f| (m.name(), &f.why))) {
            self.tell(Event::Warning(&format!("mirror {}: {}; it cannot repair others", other.0, other.1)));
        }
        mirror::all_failed(&self.mirrors()[..self.chosen]).map_or(Ok(()), Err)
    }

    /// Determines which images to check, and which heads each mirror must satisfy.
    fn take_stock(&mut self) -> Result<(), Error> {
        let wanted = |name: &Name| self.options.images.is_empty() || self.options.images.contains(name);
        let own = |name: &Name| self.options.policy.of(name).own;
        let views = self.views();
        let required = RequiredHeads::of(views.iter().flatten().copied(), own, wanted);
        let duties = views.iter().map(|view| view.map(|view| required.duties(view)).unwrap_or_default()).collect();
        let nowhere = |name: &&Name| {
            let absent = |view: &&MirrorView| {
                matches!(view.heads.get(*name), None | Some(HeadState::Absent)) && !view.list.names.contains(*name)
            };
            views.iter().flatten().all(absent)
        };
        if let Some(name) = self.options.images.iter().find(nowhere) {
            return Err(Error::local(format!("no mirror has an image named {name}")));
        }
        drop(views);
        (self.required, self.duties) = (required, duties);
        let unchecked = &self.required.unchecked;
        if let Some(name) =
            unchecked.iter().find(|n| self.required.images.is_empty() || self.options.images.contains(n))
        {
            let error = Error::usage(format!("no key is known for {name}"));
            return Err(error.hint("pin its public key with --key RW..., or accept unsigned images with --unsigned"));
        }
        if self.required.images.is_empty() {
            let error = Error::local("there is no image on these mirrors");
            return Err(error.hint("hfl publish IMAGE --to mirrors.toml puts one there"));
        }
        for name in unchecked {
            self.tell(Event::Warning(&format!("{name} is not checked: no key is known for it")));
        }
        Ok(())
    }

    /// Checks the newest heads by the rules of readers: expiry and rollback protection.
    async fn judge_newest(&mut self) -> Result<(), Error> {
        for (name, newest) in self.required.newest.clone() {
            match self.repository.accept(&name, &newest, false).await {
                Err(e) if e.kind() == ErrorKind::Unverified => drop(self.required.refused.insert(name, e.to_string())),
                accepted => accepted?,
            }
        }
        Ok(())
    }

    async fn check_files(&mut self, ledgers: &mut [Findings]) -> Result<ExpectedBlocks, Error> {
        self.tell(Event::Phase(Phase::CheckFiles));
        let mut expected = ExpectedBlocks::default();
        for (mirror, duties) in self.duties.iter().enumerate() {
            duties.iter().flat_map(|b| &b.head.versions).for_each(|row| expected.promise(row, mirror));
        }
        let (this, on_shelf) = (&*self, &expected);
        let checks = ledgers.iter_mut().enumerate().map(|(mirror, findings)| async move {
            let started = Instant::now();
            let done = files::check(this, mirror, on_shelf, findings).await;
            findings.checked.seconds += started.elapsed().as_secs_f64();
            done
        });
        let done = join_all(checks).await;
        self.settle(done)?;
        Ok(expected)
    }

    async fn check_blocks(&mut self, expected: &ExpectedBlocks, ledgers: &mut [Findings]) -> Result<(), Error> {
        self.tell(Event::Phase(Phase::CheckBlocks));
        let all = self.sees_all() && self.required.images.iter().all(|name| self.required.newest.contains_key(name));
        let complete = files::complete(self, expected).await? && all;
        let mut named = self.named();
        let views = self.views();
        named.extend(retired::find(self, &views, expected).await);
        let (this, named, views) = (&*self, &named, &views);
        let checks = ledgers.iter_mut().enumerate().map(|(mirror, findings)| async move {
            let Some(look) = views[mirror] else { return Ok(()) };
            let started = Instant::now();
            let done = blocks::check(this, mirror, (look, expected), findings).await;
            if complete {
                strays::find(look, expected, named, findings);
            }
            let sample = done?;
            public::check(this, mirror, sample, findings).await;
            findings.checked.seconds += started.elapsed().as_secs_f64();
            Ok(())
        });
        let done = join_all(checks).await;
        self.settle(done)
    }

    /// The paths of all indexes and updates named by any head, and of their signatures.
    fn named(&self) -> BTreeSet<RepoPath> {
        let all = self.duties.iter().flatten().chain(self.required.newest.values());
        let paths = all.flat_map(|b| {
            let updates = b.head.files.iter().map(|row| row.path.clone()).filter(RepoPath::is_update);
            b.head.versions.iter().map(|row| row.index_path(&b.head.image)).chain(updates)
        });
        paths.flat_map(|path| [path.signature(), path]).collect()
    }

    async fn repair(&mut self, ledgers: &mut [Findings]) {
        let this = &*self;
        let repairs = ledgers.iter_mut().enumerate().map(|(mirror, findings)| async move {
            let done = match this.mirrors()[mirror].is_up() {
                true => repair::repair(this, mirror, findings).await,
                false => Ok(()),
            };
            findings.list.iter_mut().for_each(Finding::leave);
            done
        });
        for (mirror, done) in join_all(repairs).await.into_iter().enumerate() {
            if let Err(e) = done {
                self.repository.mirrors[mirror].fail(e);
            }
        }
    }
}
