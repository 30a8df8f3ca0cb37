//! The steps of a check, in their order: heads, then what they name, then the blocks; mending last.

use std::collections::BTreeSet;
use std::time::Instant;

use futures_util::future::join_all;

use super::expected::Shelf;
use super::findings::{Finding, Ledger};
use super::problem::VerifyReport;
use super::required::Roster;
use super::run::Run;
use super::{blocks, files, public, repair, retired, seeds, strays};
use crate::error::{Error, ErrorKind};
use crate::format::layout::RepoPath;
use crate::format::name::Name;
use crate::progress::Event;
use crate::publish::repository::mirror;
use crate::repo::survey::{HeadState, MirrorView};

impl Run {
    pub(super) async fn work(&mut self) -> Result<VerifyReport, Error> {
        let started = Instant::now();
        self.refuse_all_failed()?;
        self.take_stock()?;
        self.judge_newest().await?;
        let mut ledgers: Vec<Ledger> = (0..self.chosen).map(|_| Ledger::default()).collect();
        for (ledger, view) in ledgers.iter_mut().zip(self.views()) {
            ledger.add(view.iter().flat_map(|view| self.roster.judge(view)));
            ledger.checked.objects += view.iter().map(|view| 1 + view.heads.len() as u64).sum::<u64>();
        }
        let shelf = self.check_files(&mut ledgers).await?;
        self.check_blocks(&shelf, &mut ledgers).await?;
        if self.options.repair {
            self.tell(Event::Step("repairing"));
            seeds::repair(self, &shelf, &mut ledgers).await?;
            self.repair(&mut ledgers).await;
        }
        Ok(self.report(ledgers, started))
    }

    /// What each mirror shows; nothing where it could not be looked at.
    fn views(&self) -> Vec<Option<&MirrorView>> {
        let views = self.mirrors().iter().zip(&self.repository.views);
        views.map(|(mirror, view)| mirror.is_up().then_some(view)).collect()
    }

    /// An error where no mirror under check is left.
    fn refuse_all_failed(&self) -> Result<(), Error> {
        let others = &self.mirrors()[self.chosen..];
        for other in others.iter().filter_map(|m| m.failed.as_ref().map(|f| (m.name(), &f.why))) {
            self.tell(Event::Warning(&format!("mirror {}: {}; it cannot repair others", other.0, other.1)));
        }
        mirror::all_failed(&self.mirrors()[..self.chosen]).map_or(Ok(()), Err)
    }

    /// Settles what should be where.
    fn take_stock(&mut self) -> Result<(), Error> {
        let wanted = |name: &Name| self.options.images.is_empty() || self.options.images.contains(name);
        let own = |name: &Name| self.options.policy.of(name).own;
        let views = self.views();
        let roster = Roster::of(views.iter().flatten().copied(), own, wanted);
        let duty = views.iter().map(|view| view.map(|view| roster.duty(view)).unwrap_or_default()).collect();
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
        (self.roster, self.duty) = (roster, duty);
        let unchecked = &self.roster.unchecked;
        if let Some(name) = unchecked.iter().find(|n| self.roster.images.is_empty() || self.options.images.contains(n))
        {
            let error = Error::new(ErrorKind::Usage, format!("no key is known for {name}"));
            return Err(error.hint("pin its public key with --key RW..., or say --unsigned to trust whatever is there"));
        }
        if self.roster.images.is_empty() {
            let error = Error::local("there is no image on these mirrors");
            return Err(error.hint("hfl publish IMAGE --to mirrors.toml puts one there"));
        }
        for name in unchecked {
            self.tell(Event::Warning(&format!("{name} is not checked: no key is known for it")));
        }
        Ok(())
    }

    /// Judges the newest heads by the rules of readers.
    async fn judge_newest(&mut self) -> Result<(), Error> {
        for (name, newest) in self.roster.newest.clone() {
            match self.repository.accept(&name, &newest, false).await {
                Err(e) if e.kind() == ErrorKind::Unverified => drop(self.roster.refused.insert(name, e.to_string())),
                accepted => accepted?,
            }
        }
        Ok(())
    }

    async fn check_files(&mut self, ledgers: &mut [Ledger]) -> Result<Shelf, Error> {
        self.tell(Event::Step("checking indexes and files"));
        let mut shelf = Shelf::default();
        for (mirror, duty) in self.duty.iter().enumerate() {
            duty.iter().flat_map(|b| &b.head.versions).for_each(|row| shelf.promise(row, mirror));
        }
        let (this, on_shelf) = (&*self, &shelf);
        let checks = ledgers.iter_mut().enumerate().map(|(mirror, ledger)| async move {
            let started = Instant::now();
            let done = files::check(this, mirror, on_shelf, ledger).await;
            ledger.checked.seconds += started.elapsed().as_secs_f64();
            done
        });
        let done = join_all(checks).await;
        self.settle(done)?;
        Ok(shelf)
    }

    async fn check_blocks(&mut self, shelf: &Shelf, ledgers: &mut [Ledger]) -> Result<(), Error> {
        self.tell(Event::Step("checking blocks"));
        let all = self.sees_all() && self.roster.images.iter().all(|name| self.roster.newest.contains_key(name));
        let complete = files::complete(self, shelf).await? && all;
        let mut named = self.named();
        let views = self.views();
        named.extend(retired::find(self, &views, shelf).await);
        let (this, named, views) = (&*self, &named, &views);
        let checks = ledgers.iter_mut().enumerate().map(|(mirror, ledger)| async move {
            let Some(look) = views[mirror] else { return Ok(()) };
            let started = Instant::now();
            let done = blocks::check(this, mirror, (look, shelf), ledger).await;
            if complete {
                strays::find(look, shelf, named, ledger);
            }
            let sample = done?;
            public::check(this, mirror, sample, ledger).await;
            ledger.checked.seconds += started.elapsed().as_secs_f64();
            Ok(())
        });
        let done = join_all(checks).await;
        self.settle(done)
    }

    /// The paths of all indexes and signatures that any head names.
    fn named(&self) -> BTreeSet<RepoPath> {
        let all = self.duty.iter().flatten().chain(self.roster.newest.values());
        let paths = all.flat_map(|b| b.head.versions.iter().map(|row| row.index_path(&b.head.image)));
        paths.flat_map(|path| [path.signature(), path]).collect()
    }

    async fn repair(&mut self, ledgers: &mut [Ledger]) {
        let this = &*self;
        let repairs = ledgers.iter_mut().enumerate().map(|(mirror, ledger)| async move {
            let done = match this.mirrors()[mirror].is_up() {
                true => repair::mend(this, mirror, ledger).await,
                false => Ok(()),
            };
            ledger.findings.iter_mut().for_each(Finding::leave);
            done
        });
        for (mirror, done) in join_all(repairs).await.into_iter().enumerate() {
            if let Err(e) = done {
                self.repository.mirrors[mirror].fail(e);
            }
        }
    }
}
