//! `verify`: whether every mirror holds what its heads promise; and mending it from other mirrors where that is asked.
//!
//! What is found is data, a [`Problem`] each; an error means that it could not look. Mirrors are checked side by side.
//! Without being asked to repair it writes nothing and takes no lock; strays are told and never removed.

mod believe;
mod blocks;
mod examine;
mod files;
pub(super) mod heads;
mod ledger;
mod look;
mod problem;
mod public;
mod repair;
mod retired;
mod roster;
mod shelf;
mod strays;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;

use super::error::{Error, ErrorKind};
use super::mirror::{self, OpenMirror};
use super::progress::{Event, Progress};
use crate::layout::RepoPath;
use crate::mirrors::Mirrors;
use crate::name::Name;
use crate::store::Fetch;

use examine::Budget;
use heads::Believed;
use ledger::Ledger;
use roster::{Roster, Shown};
use shelf::Shelf;

pub use believe::Believe;
pub use problem::{Checked, Place, Problem, ProblemKind, VerifyReport};

/// How often the user is asked whether to go on.
const CANCEL_LOOK: Duration = Duration::from_millis(100);
/// Heads asked for at the same time on one mirror.
const HEADS_AT_ONCE: usize = 8;

/// What is to be checked.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Where the repository is.
    pub mirrors: Mirrors,
    /// What relative paths in it are relative to.
    pub relative_to: PathBuf,
    /// The mirrors to check; all where empty. The others only tell what is newest, and heal.
    pub only: Vec<Name>,
    /// The images to check; all where empty.
    pub images: Vec<Name>,
    /// Whose heads are believed.
    pub believe: Believe,
    /// Reads every block.
    pub deep: bool,
    /// How many blocks of each mirror are read otherwise, and through its public URL.
    pub sample: usize,
    /// Mends what other mirrors have right.
    pub repair: bool,
}

/// A check under way.
#[derive(Debug)]
struct Run {
    options: VerifyOptions,
    /// Those under check first.
    mirrors: Vec<OpenMirror>,
    /// How many are under check.
    chosen: usize,
    roster: Roster,
    /// For each mirror, the heads whose promises it must keep.
    duty: Vec<Vec<Arc<Believed>>>,
    budget: Budget,
    progress: Tell,
}

/// Who is told.
struct Tell(Arc<dyn Progress>);

impl std::fmt::Debug for Tell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tell")
    }
}

impl Tell {
    fn event(&self, event: Event<'_>) {
        self.0.event(event);
    }
}

/// Checks the mirrors of a repository.
///
/// # Errors
/// No mirror that can be reached; no image, or none for which a key is known; another publisher at work where something is
/// to be repaired; the user.
pub async fn verify(
    options: VerifyOptions,
    progress: Arc<dyn Progress>,
    cancel: Arc<AtomicBool>,
) -> Result<VerifyReport, Error> {
    let mut run = Run::open(options, progress).await?;
    let done = tokio::select! {
        report = run.work() => report,
        () = cancelled(&cancel) => Err(Error::interrupted()),
    };
    run.close().await;
    done
}

async fn cancelled(cancel: &AtomicBool) {
    while !cancel.load(Ordering::Relaxed) {
        tokio::time::sleep(CANCEL_LOOK).await;
    }
}

impl Run {
    async fn open(options: VerifyOptions, progress: Arc<dyn Progress>) -> Result<Self, Error> {
        let mut mirrors = mirror::open_all(&options.mirrors, &options.relative_to)?;
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
        let (roster, duty, budget) = Default::default();
        Ok(Self { options, mirrors, chosen, roster, duty, budget, progress: Tell(progress) })
    }

    /// Lets the next one in. What a publisher before had left undone stays so.
    async fn close(&mut self) {
        let locks: Vec<_> = self.mirrors.iter_mut().filter_map(|m| m.lock.take()).collect();
        join_all(locks.into_iter().map(|lock| {
            let unfinished = lock.unfinished();
            lock.release(!unfinished)
        }))
        .await;
    }

    async fn work(&mut self) -> Result<VerifyReport, Error> {
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
        let names = |look: &look::Look| look.names.union(&look.heads).cloned().collect::<Vec<_>>();
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
            ledger.findings.iter_mut().for_each(ledger::Finding::leave);
            done
        });
        for (mirror, done) in join_all(repairs).await.into_iter().enumerate() {
            if let Err(e) = done {
                self.mirrors[mirror].fail(e);
            }
        }
    }

    /// A mirror that went away takes no further part; anything else ends the check.
    fn settle(&mut self, done: Vec<Result<(), Error>>) -> Result<(), Error> {
        for (mirror, done) in done.into_iter().enumerate() {
            match done {
                Err(e) if e.kind() == ErrorKind::Unreachable => self.mirrors[mirror].fail(e),
                done => done?,
            }
        }
        Ok(())
    }

    fn report(&self, ledgers: Vec<Ledger>, started: Instant) -> VerifyReport {
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
    fn sees_all(&self) -> bool {
        self.options.images.is_empty() && self.roster.unchecked.is_empty()
    }

    /// The other mirrors, to heal from.
    fn sources(&self, mirror: usize) -> impl Iterator<Item = &dyn Fetch> {
        let others = self.mirrors.iter().enumerate().filter(move |(i, m)| *i != mirror && m.is_up());
        others.map(|(_, m)| &*m.store as &dyn Fetch)
    }

    /// How many objects of a mirror are best under way at the same time.
    fn jobs(&self, mirror: usize) -> usize {
        let mirror = &self.mirrors[mirror];
        mirror.config.jobs.map_or(mirror.store.jobs(), |jobs| jobs as usize)
    }
}
