//! The steps of a check, in their order: heads, then what they name, then the blocks; mending last.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;

use super::ledger::{Finding, Ledger};
use super::look::Look;
use super::problem::VerifyReport;
use super::roster::{Roster, Shown};
use super::run::Run;
use super::shelf::Shelf;
use super::{blocks, files, heads, look, public, repair, retired, strays};
use crate::layout::RepoPath;
use crate::name::Name;
use crate::publish::error::{Error, ErrorKind};
use crate::publish::mirror::{self, OpenMirror};
use crate::publish::progress::Event;

/// Heads asked for at the same time on one mirror.
const HEADS_AT_ONCE: usize = 8;

impl Run {
    pub(super) async fn work(&mut self) -> Result<VerifyReport, Error> {
        let started = Instant::now();
        self.progress.event(Event::Step("reading the heads"));
        let shown = self.look().await?;
        self.take_stock(&shown)?;
        let mut ledgers: Vec<Ledger> = (0..self.chosen).map(|_| Ledger::default()).collect();
        for (ledger, shown) in ledgers.iter_mut().zip(&shown) {
            ledger.add(shown.iter().flat_map(|shown| self.roster.judge(shown)));
            ledger.checked.objects += shown.iter().map(|(_, heads)| 1 + heads.len() as u64).sum::<u64>();
        }
        let shelf = self.check_files(&mut ledgers).await?;
        self.check_blocks(&shown, &shelf, &mut ledgers).await?;
        if self.options.repair {
            self.repair(&mut ledgers).await;
        }
        Ok(self.report(ledgers, started))
    }

    /// Looks at all mirrors; `None` for those that could not be.
    async fn look(&mut self) -> Result<Vec<Option<Shown>>, Error> {
        let looks = join_all(self.mirrors.iter().map(|m| async {
            match m.is_up() {
                true => look::look(&*m.store).await.map(Some),
                false => Ok(None),
            }
        }));
        let looks = looks.await;
        let names = |look: &Look| look.names.union(&look.heads).cloned().collect::<Vec<_>>();
        let mut images: BTreeSet<Name> =
            looks.iter().flatten().flatten().flat_map(names).chain(self.options.images.iter().cloned()).collect();
        if !self.options.images.is_empty() {
            images.retain(|name| self.options.images.contains(name));
        }
        let shown = join_all(self.mirrors.iter().zip(looks).map(|(m, look)| async {
            let Some(look) = look? else { return Ok(None) };
            Ok(Some((look, self.read_heads(m, &images).await?)))
        }));
        let shown = shown.await;
        let shown = self.mirrors.iter_mut().zip(shown).map(|(m, shown)| {
            shown.unwrap_or_else(|e: Error| {
                m.fail(e);
                None
            })
        });
        let shown = shown.collect();
        self.refuse_all_failed()?;
        Ok(shown)
    }

    async fn read_heads(
        &self,
        mirror: &OpenMirror,
        images: &BTreeSet<Name>,
    ) -> Result<BTreeMap<Name, heads::State>, Error> {
        let believe = &self.options.believe;
        let heads = stream::iter(images.iter().cloned()).map(|name| async move {
            let state = heads::read(&*mirror.store, &name, &believe.of(&name)).await?;
            Ok((name, state))
        });
        let heads: Vec<_> = heads.buffer_unordered(HEADS_AT_ONCE).collect().await;
        heads.into_iter().collect()
    }

    /// An error where no mirror under check is left.
    fn refuse_all_failed(&self) -> Result<(), Error> {
        for other in self.mirrors[self.chosen..].iter().filter_map(|m| m.failed.as_ref().map(|f| (m.name(), &f.why))) {
            self.progress.event(Event::Warning(&format!("mirror {}: {}; it cannot heal others", other.0, other.1)));
        }
        mirror::all_failed(&self.mirrors[..self.chosen]).map_or(Ok(()), Err)
    }

    /// Settles what should be where.
    fn take_stock(&mut self, shown: &[Option<Shown>]) -> Result<(), Error> {
        let own = |name: &Name| self.options.believe.of(name).own;
        self.roster = Roster::of(shown.iter().flatten(), own);
        self.duty = shown.iter().map(|shown| shown.as_ref().map(|s| self.roster.duty(s)).unwrap_or_default()).collect();
        let nowhere = |name: &&Name| {
            let absent = |(look, heads): &Shown| {
                matches!(heads.get(*name), None | Some(heads::State::Absent)) && !look.names.contains(*name)
            };
            shown.iter().flatten().all(absent)
        };
        if let Some(name) = self.options.images.iter().find(nowhere) {
            return Err(Error::local(format!("no mirror has an image named {name}")));
        }
        let unchecked = &self.roster.unchecked;
        if let Some(name) = unchecked.iter().find(|n| self.roster.images.is_empty() || self.options.images.contains(n))
        {
            let error = Error::new(ErrorKind::Usage, format!("no key is known for {name}"));
            return Err(
                error.hint("pin its public key with --key RW..., or say --unsigned to believe whatever is there")
            );
        }
        if self.roster.images.is_empty() {
            let error = Error::local("there is no image on these mirrors");
            return Err(error.hint("hfl publish IMAGE --to mirrors.toml puts one there"));
        }
        for name in unchecked {
            self.progress.event(Event::Warning(&format!("{name} is not checked: no key is known for it")));
        }
        Ok(())
    }

    async fn check_files(&mut self, ledgers: &mut [Ledger]) -> Result<Shelf, Error> {
        self.progress.event(Event::Step("checking indexes and files"));
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

    async fn check_blocks(
        &mut self,
        shown: &[Option<Shown>],
        shelf: &Shelf,
        ledgers: &mut [Ledger],
    ) -> Result<(), Error> {
        self.progress.event(Event::Step("checking blocks"));
        let all = self.sees_all() && self.roster.images.iter().all(|name| self.roster.newest.contains_key(name));
        let complete = files::complete(self, shelf).await? && all;
        let mut named = self.named();
        named.extend(retired::find(self, shown, shelf).await);
        let (this, named) = (&*self, &named);
        let checks = ledgers.iter_mut().enumerate().map(|(mirror, ledger)| async move {
            let Some((look, _)) = shown[mirror].as_ref().filter(|_| this.mirrors[mirror].is_up()) else {
                return Ok(());
            };
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
        self.progress.event(Event::Step("repairing"));
        let this = &*self;
        let repairs = ledgers.iter_mut().enumerate().map(|(mirror, ledger)| async move {
            let done = match this.mirrors[mirror].is_up() {
                true => repair::mend(this, mirror, ledger).await,
                false => Ok(()),
            };
            ledger.findings.iter_mut().for_each(Finding::leave);
            done
        });
        for (mirror, done) in join_all(repairs).await.into_iter().enumerate() {
            if let Err(e) = done {
                self.mirrors[mirror].fail(e);
            }
        }
    }
}
