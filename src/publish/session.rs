//! One image of the repository being worked on: its mirrors, its base, its key, and how a plan is brought to the mirrors.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime};

use super::base::{self, Base};
use super::boot_files::{self, BootFiles};
use super::boot_menu;
use super::catch_up;
use super::client::{self, Client};
use super::error::{Error, ErrorKind};
use super::keyring::{FoundKey, Keyring};
use super::mirror::{self, OpenMirror};
use super::options::{Check, Work};
use super::pages;
use super::plan::{Plan, Planner};
use super::presence::{Listing, Presence};
use super::profile::{self, Given, Profiles};
use super::progress::{Event, Progress};
use super::release::{Files, Object};
use super::report::{MirrorReport, Report};
use super::sync::Planned;
use super::upload::{Job, Sent, Uploader};
use crate::head::{Head, Trust};
use crate::name::{Name, Version};
use crate::time::Timestamp;

/// Who is told, and who may stop the work.
#[derive(Clone)]
pub struct Watch {
    /// Who is told.
    pub progress: Arc<dyn Progress>,
    /// Set when the user wants it to end.
    pub cancel: Arc<AtomicBool>,
}

/// The queue of each mirror that takes part, in the order of mirrors.toml.
pub type Uploads = Vec<Option<Uploader>>;

/// What is to become of an image's heads, and so whose key is needed.
#[derive(Debug, Clone)]
pub enum Intent {
    /// A first or further version: a key is made where there is none.
    Publish,
    /// Another head of an image that exists.
    Change,
    /// The same heads on more mirrors; believed as said, and made anew only where the secret key is at hand.
    Copy(Trust),
}

/// An image being worked on.
pub struct Session {
    pub(super) work: Work,
    pub(super) name: Name,
    pub(super) mirrors: Vec<OpenMirror>,
    pub(super) base: Base,
    pub(super) key: Option<FoundKey>,
    pub(super) trust: Trust,
    pub(super) new_key_file: Option<PathBuf>,
    pub(super) clients: Vec<Client>,
    profiles: Profiles,
    boot: Vec<Object>,
    pub(super) now: Timestamp,
    pub(super) watch: Watch,
    started: Instant,
    /// Whether objects may have been written that no head names yet.
    pub(super) touched: bool,
}

impl Intent {
    /// The secret key, and what is believed of the heads that are there.
    fn key(self, keyring: Option<&Keyring>, name: &Name) -> Result<(Option<FoundKey>, Trust), Error> {
        let key = match &self {
            Self::Publish => keyring.map(|keyring| keyring.find(name)).transpose()?,
            Self::Change => keyring.map(|keyring| keyring.find_kept(name)).transpose()?,
            Self::Copy(trust) => {
                let kept = keyring.and_then(|keyring| keyring.find_kept(name).ok());
                kept.filter(|found| *trust == Trust::Key(found.key.public().clone()))
            }
        };
        let trust = match self {
            Self::Copy(trust) => trust,
            _ => key.as_ref().map_or(Trust::Anyone, |found| Trust::Key(found.key.public().clone())),
        };
        Ok((key, trust))
    }
}

impl Session {
    /// Locks the mirrors, and reads what they hold of image `name`.
    ///
    /// # Errors
    /// Another publisher at work; a repository that cannot be built upon; no mirror that can be used.
    pub async fn open(work: Work, name: Name, intent: Intent, watch: Watch) -> Result<Self, Error> {
        let started = Instant::now();
        watch.progress.event(Event::Step("reading the mirrors"));
        let mut mirrors = mirror::open_all(&work.mirrors, &work.relative_to).await?;
        let (key, trust) = intent.key(work.keyring.as_ref(), &name)?;
        if let Some(warning) = key.as_ref().and_then(|k| k.warning.as_deref()) {
            watch.progress.event(Event::Warning(warning));
        }
        if !work.dry_run {
            mirror::lock_all(&mut mirrors).await?;
        }
        let mut session = Self {
            work,
            name,
            mirrors,
            base: Base::default(),
            key,
            trust,
            new_key_file: None,
            clients: Vec::new(),
            profiles: Profiles::default(),
            boot: Vec::new(),
            now: Timestamp::from_system(SystemTime::now()),
            watch,
            started,
            touched: false,
        };
        match session.read().await {
            Ok(()) => Ok(session),
            Err(e) => {
                session.close().await;
                Err(e)
            }
        }
    }

    async fn read(&mut self) -> Result<(), Error> {
        mirror::read_heads(&mut self.mirrors, &self.name, &self.trust).await?;
        if self.trust == Trust::Anyone && self.mirrors.iter().any(|m| m.head.as_ref().is_some_and(|f| f.signed)) {
            let message = format!("{} is signed on these mirrors; it cannot go on unsigned", self.name);
            return Err(Error::new(ErrorKind::Unverified, message).hint("give its key with --key or HFL_KEY"));
        }
        let mut keys = self.work.keyring.as_ref().map(Keyring::public_keys).unwrap_or_default();
        if let Trust::Key(key) = &self.trust {
            keys.push(key.clone());
        }
        self.base = base::find(&self.mirrors, &self.name, &keys, &*self.watch.progress).await?;
        for (mirror, why) in self.base.unusable.drain(..) {
            self.mirrors[mirror].fail(why);
        }
        self.look_at_presence().await;
        if self.can_sign() {
            self.clients = client::find(&self.work.clients(), self.key.as_ref().map(|k| &k.key))?;
        }
        self.save_key()?;
        self.all_failed().map_or(Ok(()), Err)
    }

    /// Finds out what each mirror is likely to hold beyond what its head vouches for.
    async fn look_at_presence(&mut self) {
        let list = self.work.check == Check::List;
        for (i, mirror) in self.mirrors.iter_mut().enumerate().filter(|(_, m)| m.is_up()) {
            if mirror.is_unfinished() {
                mirror.presence = Presence::Likely;
            }
            if !list {
                continue;
            }
            match Listing::of(&*mirror.store).await {
                Ok(listing) => {
                    self.base.known.keep_listed(i, &listing);
                    mirror.presence = Presence::Listed(Arc::new(listing));
                }
                Err(e) => mirror.fail(e),
            }
        }
    }

    /// Whether new heads can be made.
    fn can_sign(&self) -> bool {
        self.key.is_some() || self.trust == Trust::Anyone
    }

    /// Whether heads and indexes carry signatures.
    pub(super) fn is_signed(&self) -> bool {
        self.trust != Trust::Anyone
    }

    /// Keeps a new key before anything that it signs can exist.
    fn save_key(&mut self) -> Result<(), Error> {
        if self.work.dry_run {
            return Ok(());
        }
        if let (Some(keyring), Some(key)) = (&self.work.keyring, &self.key) {
            self.new_key_file = keyring.save(key, &self.name)?;
        }
        Ok(())
    }

    /// Lets the next publisher in; says to it whether a mirror's work is done.
    pub async fn close(&mut self) {
        let touched = self.touched;
        let locks = self.mirrors.iter_mut().filter_map(|m| m.lock.take().map(|lock| (m.is_current, lock)));
        let locks: Vec<_> = locks.collect();
        futures_util::future::join_all(locks.into_iter().map(|(current, lock)| lock.release(current || !touched)))
            .await;
    }

    /// The reason why no mirror is left, if none is.
    pub fn all_failed(&self) -> Option<Error> {
        mirror::all_failed(&self.mirrors)
    }

    /// Starts a queue for each mirror that takes part.
    pub fn start_uploads(&mut self) -> Uploads {
        self.touched = true;
        self.mirrors.iter().map(|m| m.is_up().then(|| Uploader::start(m, Arc::clone(&self.watch.progress)))).collect()
    }

    /// A new version will be shipped with the profile that was `given`, or else with that of the first of `versions` that
    /// has one, or of the newest.
    pub(super) async fn choose_profile(&mut self, given: Option<Given>, versions: &[Version]) {
        let newest = self.base.head.as_ref().map(|head| head.newest().version);
        let versions: Vec<Version> = versions.iter().copied().chain(newest).collect();
        let previous = match given {
            Some(_) => None,
            None => profile::held(&self.base, &self.mirrors, &versions, &*self.watch.progress).await,
        };
        self.profiles = Profiles { given, previous };
    }

    /// A new version will be booted with this; whether the newest one is booted with anything else.
    ///
    /// # Errors
    /// A miniroot that cannot be made.
    pub(super) async fn choose_boot(&mut self, files: BootFiles) -> Result<bool, Error> {
        let next = self.base.next_version()?;
        let (image, head) = (self.name.clone(), self.base.head.clone());
        let key = self.key.as_ref().map(|found| found.key.public().clone());
        let made = tokio::task::spawn_blocking(move || {
            let same = match &head {
                None => false,
                Some(head) => boot_files::are_named(head, &files.of(&image, head.newest().version, key.as_ref())?),
            };
            Ok((files.of(&image, next, key.as_ref())?, !same))
        });
        let made = made.await.unwrap_or_else(|e| Err(Error::local(format!("making the miniroot failed: {e}"))));
        let (boot, changed) = made?;
        self.boot = boot;
        Ok(changed)
    }

    /// A new version that is `old` again will be booted with the same.
    ///
    /// # Errors
    /// A file of which no mirror has a good copy.
    pub(super) async fn boot_again(&mut self, old: Version) -> Result<(), Error> {
        self.boot = boot_files::again(&self.base, &self.mirrors, old, self.base.next_version()?).await?;
        Ok(())
    }

    /// What decides what to publish.
    pub fn planner<'a>(&'a self, label: Option<&'a crate::name::Label>, force: bool) -> Planner<'a> {
        Planner {
            work: &self.work,
            name: &self.name,
            label,
            force,
            base: &self.base,
            key: self.key.as_ref().map(|found| &found.key),
            can_sign: self.can_sign(),
            clients: &self.clients,
            profiles: &self.profiles,
            boot: &self.boot,
            mirrors: &self.mirrors,
            now: self.now,
        }
    }

    /// Carries out a plan: sends what each mirror lacks, checks, and switches the heads.
    ///
    /// # Errors
    /// Too few mirrors that got so far; the user. A mirror that fails is a line of the report.
    pub async fn carry_out(&mut self, plan: &Plan, uploads: Uploads) -> Result<Report, Error> {
        let mut report = self.report(plan);
        let pages = self.render_pages(plan).await?;
        report.mirrors = self.release(plan, &pages, uploads).await?;
        report.finish(self.started);
        self.all_failed().map_or(Ok(report), Err)
    }

    /// Says what a plan would do, apart from blocks that were `planned` before.
    ///
    /// # Errors
    /// A template that cannot be rendered.
    pub async fn preview(&mut self, plan: &Plan, planned: &mut Planned) -> Result<Report, Error> {
        let pages = self.render_pages(plan).await?;
        let mut report = self.report(plan);
        for (i, mirror) in self.mirrors.iter().enumerate() {
            let mut sent = Sent { objects: plan.cut.new.blocks, bytes: plan.cut.new.zlib_bytes, ..Sent::default() };
            let missing = self.missing(plan, i);
            missing.iter().filter(|job| planned.insert((i, job.row().id))).for_each(|job| sent.expect(job));
            let files = match mirror.is_up() && self.is_behind(plan, i) {
                true => self.expected_files(plan, &pages, i).await?,
                false => Files::default(),
            };
            report.mirrors.push(MirrorReport::of(mirror, sent, files));
        }
        report.finish(self.started);
        Ok(report)
    }

    async fn expected_files(&self, plan: &Plan, pages: &[Object], mirror: usize) -> Result<Files, Error> {
        let older = catch_up::older_files(&self.base, &self.mirrors[mirror], self.is_signed());
        let mut files = plan.release.files(&*self.mirrors[mirror].store, pages).await?;
        older.iter().for_each(|file| files.add(file.bytes));
        if let Ok(Some(list)) = plan.release.image_list(&self.mirrors[mirror]).await {
            files.add(list.len() as u64);
        }
        Ok(files)
    }

    /// Whether the mirror has another head than the plan's.
    pub(super) fn is_behind(&self, plan: &Plan, mirror: usize) -> bool {
        self.mirrors[mirror].head.as_ref().is_none_or(|found| found.file != plan.release.head)
    }

    /// Whether some mirror's head is older than another's, or its pages may be.
    pub(super) fn is_split(&self) -> bool {
        let is_older =
            |m: &OpenMirror| m.head.as_ref().is_some_and(|found| Some(&found.head) != self.base.head.as_ref());
        self.mirrors.iter().any(|m| m.is_up() && (m.is_unfinished() || is_older(m)))
    }

    /// The blocks that a mirror lacks and another one has.
    pub(super) fn missing(&self, plan: &Plan, mirror: usize) -> Vec<Job> {
        catch_up::missing_blocks(&plan.release.indexes, &self.base, &self.mirrors, mirror)
    }

    async fn render_pages(&self, plan: &Plan) -> Result<Vec<Object>, Error> {
        let mut names = BTreeSet::from([self.name.clone()]);
        for mirror in self.mirrors.iter().filter(|m| m.is_up()) {
            names.extend(base::images(mirror).await.unwrap_or_default());
        }
        let names: Vec<Name> = names.into_iter().collect();
        let templates = self.work.templates();
        let key = match &self.trust {
            Trust::Key(key) => Some(key),
            Trust::Anyone => None,
        };
        let mut pages = pages::render(templates.as_deref(), &plan.head, key, &names)?;
        let (new, progress) = (&plan.release.objects, &*self.watch.progress);
        pages.extend(boot_menu::render(templates.as_deref(), &plan.head, new, &self.mirrors, progress).await?);
        Ok(pages)
    }

    fn report(&self, plan: &Plan) -> Report {
        let previous = self.base.head.as_ref().map(Head::newest).map(|row| row.version.number());
        let mut report = Report::of(plan, previous, self.started);
        if let Trust::Key(key) = &self.trust {
            report.public_key = Some(key.to_string());
        }
        report.new_key_file = self.new_key_file.as_ref().map(|file| file.display().to_string());
        report
    }
}
