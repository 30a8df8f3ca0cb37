//! One image of an open repository: its base, its key, and how a plan is brought to the mirrors.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::plan::{Plan, Planner};
use super::report::{MirrorReport, Report};
use crate::error::{Error, ErrorKind};
use crate::format::digest::BlockId;
use crate::format::head::{Head, Trust};
use crate::format::index::BlockRow;
use crate::format::layout::RepoPath;
use crate::format::name::{Label, Name, Version};
use crate::format::time::Timestamp;
use crate::progress::Event;
use crate::publish::artifact::boot_files::{self, BootFiles};
use crate::publish::artifact::client::{self, Client};
use crate::publish::artifact::profile::{self, Given, Profiles};
use crate::publish::artifact::{boot_menu, pages};
use crate::publish::base::{self, Base, Reuse, listing};
use crate::publish::object::{Files, Object};
use crate::publish::pipeline::remake::Remake;
use crate::publish::pipeline::upload::{Sent, Uploader};
use crate::publish::repository::keyring::{FoundKey, Keyring};
use crate::publish::repository::mirror::{self, OpenMirror, Presence};
use crate::publish::repository::options::Check;
use crate::publish::repository::{LISTING_PATIENCE, OpenRepository};
use crate::repo::survey::{BlockListing, HeadState, TrustPolicy};
use crate::system::bridge;

/// What a signature has about, in bytes.
const SIGNATURE_BYTES: u64 = 350;

/// Blocks that were said to be sent to mirrors (by their place in mirrors.toml): images share blocks, and each is sent once.
pub type Planned = HashSet<(usize, BlockId)>;

/// The queue of each mirror that takes part, in the order of mirrors.toml.
pub type Uploads = Vec<Option<Uploader>>;

/// Who signs new heads, and whose heads are accepted.
pub struct Signer {
    /// The secret key, where it is at hand.
    pub key: Option<FoundKey>,
    /// What is accepted of the heads that are there.
    pub trust: Trust,
}

/// An image being worked on.
pub struct Session<'a> {
    pub repository: &'a mut OpenRepository,
    pub name: Name,
    pub base: Base,
    pub key: Option<FoundKey>,
    pub trust: Trust,
    pub new_key_file: Option<PathBuf>,
    pub clients: Vec<Client>,
    /// How blocks that turn out to be damaged are made once more.
    pub remake: Option<Remake>,
    profiles: Profiles,
    boot: Vec<Object>,
    pub now: Timestamp,
    started: Instant,
    /// Mirrors on which work of an image before this one was left undone.
    undone_before: Vec<bool>,
}

impl Signer {
    /// For a first or further version: a key is made where there is none.
    ///
    /// # Errors
    /// A key that cannot be read.
    pub fn for_version(keyring: Option<&Keyring>, name: &Name) -> Result<Self, Error> {
        Ok(Self::with(keyring.map(|keyring| keyring.find(name)).transpose()?))
    }

    /// For another head of an image that exists.
    ///
    /// # Errors
    /// A key that cannot be read, or none at all.
    pub fn for_change(keyring: Option<&Keyring>, name: &Name) -> Result<Self, Error> {
        Ok(Self::with(keyring.map(|keyring| keyring.find_kept(name)).transpose()?))
    }

    /// For the same heads on more mirrors; they are made anew only where the secret key is at hand.
    pub fn for_copies(keyring: Option<&Keyring>, name: &Name, trust: Trust) -> Self {
        let kept = keyring.and_then(|keyring| keyring.find_kept(name).ok());
        Self { key: kept.filter(|found| trust == Trust::Key(found.key.public().clone())), trust }
    }

    fn with(key: Option<FoundKey>) -> Self {
        let trust = key.as_ref().map_or(Trust::Anyone, |found| Trust::Key(found.key.public().clone()));
        Self { key, trust }
    }

    /// Whose heads are accepted in a repository in which this one signs.
    pub fn policy(&self, keyring: Option<&Keyring>, name: &Name) -> TrustPolicy {
        let known = keyring.map(Keyring::known_keys).unwrap_or_default();
        TrustPolicy::Known(known).with(name, &self.trust)
    }
}

impl<'a> Session<'a> {
    /// Begins to work on image `name`, of which a new version may be made.
    ///
    /// # Errors
    /// A repository that cannot be built upon; no mirror that can be used.
    pub async fn begin(repository: &'a mut OpenRepository, name: Name, signer: Signer) -> Result<Self, Error> {
        Self::open(repository, name, signer, Reuse::All).await
    }

    /// The same where the newest version stays. Of an image that all mirrors have alike next to nothing is read: otherwise
    /// work on all images would read all images for each of them.
    ///
    /// # Errors
    /// Those of [`Session::begin`].
    pub async fn begin_standing(repository: &'a mut OpenRepository, name: Name, signer: Signer) -> Result<Self, Error> {
        let is_alike = repository.config.check != Check::List && repository.agrees_on(&name);
        let reuse = if is_alike { Reuse::Newest } else { Reuse::All };
        Self::open(repository, name, signer, reuse).await
    }

    async fn open(repository: &'a mut OpenRepository, name: Name, signer: Signer, reuse: Reuse) -> Result<Self, Error> {
        if let Some(warning) = signer.key.as_ref().and_then(|k| k.warning.as_deref()) {
            repository.watch.progress.event(Event::Warning(warning));
        }
        let now = repository.config.host.now();
        let mut session = Self {
            undone_before: repository.mirrors.iter().map(|m| m.undone).collect(),
            repository,
            name,
            base: Base::default(),
            key: signer.key,
            trust: signer.trust,
            new_key_file: None,
            clients: Vec::new(),
            remake: None,
            profiles: Profiles::default(),
            boot: Vec::new(),
            now,
            started: Instant::now(),
        };
        session.read(reuse).await?;
        Ok(session)
    }

    async fn read(&mut self, reuse: Reuse) -> Result<(), Error> {
        self.take_heads()?;
        self.all_failed().map_or(Ok(()), Err)?;
        if self.trust == Trust::Anyone && self.mirrors().iter().any(|m| m.head.as_ref().is_some_and(|f| f.signed)) {
            let message = format!("{} is signed on these mirrors; it cannot go on unsigned", self.name);
            return Err(Error::new(ErrorKind::Unverified, message).hint("give its key with --key or HFL_KEY"));
        }
        let remembered = self.repository.config.memory.recall(&self.name, &self.trust)?;
        self.leave_unmounted(&remembered);
        self.base = base::find(self.repository, &self.name, reuse).await?;
        self.take_numbers(&remembered).await?;
        self.look_at_presence().await;
        if self.can_sign() {
            let programs = self.repository.programs()?;
            self.clients = client::new(programs, self.base.head.as_ref(), self.key.as_ref().map(|k| &k.key))?;
        }
        self.save_key()?;
        self.all_failed().map_or(Ok(()), Err)
    }

    pub fn mirrors(&self) -> &[OpenMirror] {
        &self.repository.mirrors
    }

    /// Takes the heads of this image out of what the mirrors showed. One that does not verify only costs that mirror its
    /// part in the work, as long as another one's does.
    fn take_heads(&mut self) -> Result<(), Error> {
        let (name, mut refused) = (&self.name, None);
        for (mirror, view) in self.repository.mirrors.iter_mut().zip(&self.repository.views) {
            (mirror.head, mirror.presence, mirror.is_current) = (None, Presence::Unlikely, false);
            if !mirror.is_up() {
                continue;
            }
            if let Some(flaw) = &view.list.flaw {
                let error = unverified(mirror, &RepoPath::images(), &flaw.what);
                mirror.fail(error.hint("the list holds one name a line; correct it by hand"));
                continue;
            }
            match view.heads.get(name) {
                None | Some(HeadState::Absent) => {}
                Some(HeadState::Verified(head)) => mirror.head = Some(Arc::clone(head)),
                Some(HeadState::Unreadable(e)) => mirror.fail(e.clone().into()),
                Some(HeadState::Damaged(flaw, _) | HeadState::Foreign(_, flaw, _)) => {
                    let error = unverified(mirror, &RepoPath::head(name), &flaw.what);
                    refused = Some(error.clone());
                    mirror.fail(error);
                }
            }
        }
        match refused {
            // Whoever begins it anew has seen that; else one mirror could keep a name for itself on all of them.
            Some(e) if !self.repository.config.first && self.mirrors().iter().all(|m| m.head.is_none()) => {
                let advice = format!(
                    "{name} is published here with another key, or its head is damaged; give its key with --key or HFL_KEY, or \
                     say --first to begin it on the mirrors that have none"
                );
                Err(e.hint(advice))
            }
            _ => Ok(()),
        }
    }

    /// Finds out what each mirror holds beyond what its head vouches for.
    async fn look_at_presence(&mut self) {
        let left_undone = self.repository.mirrors.iter_mut().filter(|mirror| mirror.is_up() && mirror.is_unfinished());
        left_undone.for_each(|mirror| mirror.presence = Presence::Likely);
        if self.repository.config.check == Check::List {
            self.keep_listed().await;
        }
    }

    /// Relies on no block of a mirror that it does not list with the right size.
    async fn keep_listed(&mut self) {
        let up = mirror::up(self.mirrors());
        let (mirrors, known) = (&self.repository.mirrors, &self.base.known);
        let lists = up.iter().map(|&i| async move {
            let listing = Arc::new(BlockListing::of(&*mirrors[i].store).await?);
            let held = known.iter().filter(|known| known.holders.contains(i)).map(|known| &known.row);
            let wrong = listing::not_right(&mirrors[i], &listing, held).await?;
            Ok::<_, Error>((listing, wrong))
        });
        let patience = self.repository.patience(LISTING_PATIENCE);
        let lists = bridge::in_time(lists, patience, Result::is_ok).await;
        for (i, (listing, wrong)) in mirror::settle(&mut self.repository.mirrors, up, lists, patience) {
            self.repository.mirrors[i].presence = Presence::Listed(listing);
            self.base.known.keep(i, |row| !wrong.contains(&row.id));
        }
    }

    /// Whether new heads can be made.
    pub fn can_sign(&self) -> bool {
        self.key.is_some() || self.trust == Trust::Anyone
    }

    /// Whether heads and indexes carry signatures.
    pub fn is_signed(&self) -> bool {
        self.trust != Trust::Anyone
    }

    /// Keeps a new key before anything that it signs can exist.
    fn save_key(&mut self) -> Result<(), Error> {
        if self.repository.config.dry_run {
            return Ok(());
        }
        if let (Some(keyring), Some(key)) = (&self.repository.config.keyring, &self.key) {
            self.new_key_file = keyring.save(key, &self.name)?;
        }
        Ok(())
    }

    /// The reason why no mirror is left, if none is.
    pub fn all_failed(&self) -> Option<Error> {
        self.repository.all_failed()
    }

    /// From now on objects may be written that no head names yet.
    pub fn touch(&mut self) {
        self.repository.mirrors.iter_mut().filter(|m| m.is_up()).for_each(|m| m.undone = true);
    }

    /// The mirrors that are up have all that this run was to bring them.
    pub fn settle(&mut self) {
        for (mirror, before) in self.repository.mirrors.iter_mut().zip(&self.undone_before) {
            mirror.is_current = mirror.is_up();
            mirror.undone = if mirror.is_current { *before } else { mirror.undone };
            mirror.is_resumed |= mirror.is_current && mirror.is_unfinished();
        }
    }

    /// Starts a queue for each mirror that takes part.
    pub fn start_uploads(&mut self) -> Uploads {
        self.touch();
        let progress = &self.repository.watch.progress;
        self.mirrors()
            .iter()
            .map(|m| m.is_up().then(|| Uploader::start(m, m.presence.clone(), Arc::clone(progress))))
            .collect()
    }

    /// A new version will be shipped with the profile that was `given`, or else with that of the first of `versions` that
    /// has one, or of the newest.
    pub async fn choose_profile(&mut self, given: Option<Given>, versions: &[Version]) {
        let newest = self.base.head.as_ref().map(|head| head.newest().version);
        let versions: Vec<Version> = versions.iter().copied().chain(newest).collect();
        let progress = &*self.repository.watch.progress;
        let previous = match given {
            Some(_) => None,
            None => profile::held(&self.base, self.mirrors(), &versions, progress).await,
        };
        self.profiles = Profiles { given, previous };
    }

    /// Sets the boot files of the new version; true where they differ from the newest version's.
    ///
    /// # Errors
    /// A miniroot that cannot be made.
    pub async fn choose_boot(&mut self, files: BootFiles) -> Result<bool, Error> {
        let next = self.base.next_version()?;
        let (image, head) = (self.name.clone(), self.base.head.clone());
        let key = self.key.as_ref().map(|found| found.key.public().clone());
        let made = bridge::blocking(move || {
            let same = match &head {
                None => false,
                Some(head) => boot_files::are_named(head, &files.of(&image, head.newest().version, key.as_ref())?),
            };
            Ok::<_, Error>((files.of(&image, next, key.as_ref())?, !same))
        });
        let (boot, changed) = made.await?;
        self.boot = boot;
        Ok(changed)
    }

    /// A new version that is `old` again will be booted with the same.
    ///
    /// # Errors
    /// A file of which no mirror has a good copy.
    pub async fn boot_again(&mut self, old: Version) -> Result<(), Error> {
        self.boot = boot_files::again(&self.base, self.mirrors(), old, self.base.next_version()?).await?;
        Ok(())
    }

    /// What decides what to publish.
    pub fn planner<'b>(&'b self, label: Option<&'b Label>, force: bool) -> Planner<'b> {
        Planner {
            repository: &self.repository.config,
            name: &self.name,
            label,
            force: force || self.base.conflict.is_some(),
            base: &self.base,
            key: self.key.as_ref().map(|found| &found.key),
            can_sign: self.can_sign(),
            clients: &self.clients,
            profiles: &self.profiles,
            boot: &self.boot,
            mirrors: self.mirrors(),
            now: self.now,
        }
    }

    /// Carries out a plan: sends what each mirror lacks, checks, and switches the heads.
    ///
    /// # Errors
    /// Too few mirrors that got so far; the user. A mirror that fails is a line of the report.
    pub async fn carry_out(&mut self, plan: &Plan, uploads: Uploads) -> Result<Report, Error> {
        self.warn(plan);
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
        self.warn(plan);
        let pages = self.render_pages(plan).await?;
        let mut report = self.report(plan);
        for i in 0..self.mirrors().len() {
            let mut sent = Sent { objects: plan.cut.new.blocks, bytes: plan.cut.new.zlib_bytes, ..Sent::default() };
            let mut files = Files::default();
            if self.mirrors()[i].is_up() {
                self.remade(plan, i).filter(|row| planned.insert((i, row.id))).for_each(|row| sent.expect(row));
                let missing = self.missing(plan, i).await?;
                missing.iter().filter(|job| planned.insert((i, job.row().id))).for_each(|job| sent.expect(job.row()));
                if self.is_behind(plan, i) {
                    files = self.expected_files(plan, &pages, i).await?;
                }
            }
            report.mirrors.push(MirrorReport::of(&self.mirrors()[i], sent, files));
        }
        report.finish(self.started);
        Ok(report)
    }

    /// The blocks that a mirror does not hold, though others do, and that were made again from the image.
    fn remade<'b>(&'b self, plan: &'b Plan, mirror: usize) -> impl Iterator<Item = &'b BlockRow> {
        let known = plan.cut.remade.iter().filter_map(|id| self.base.known.get(id));
        known.filter(move |known| !known.holders.contains(mirror)).map(|known| &known.row)
    }

    fn warn(&self, plan: &Plan) {
        plan.warnings.iter().for_each(|warning| self.repository.watch.progress.event(Event::Warning(warning)));
    }

    async fn expected_files(&self, plan: &Plan, pages: &[Object], i: usize) -> Result<Files, Error> {
        let mirror = &self.mirrors()[i];
        let mut files = plan.release.files(&*mirror.store, pages).await?;
        for file in self.older_files(plan, i) {
            files.add(file.bytes);
            if self.is_signed() {
                files.add(SIGNATURE_BYTES);
            }
        }
        if let Some(list) = plan.release.image_list(&self.repository.views[i].list) {
            files.add(list.len() as u64);
        }
        Ok(files)
    }

    /// Whether the mirror has another head than the plan's.
    pub fn is_behind(&self, plan: &Plan, mirror: usize) -> bool {
        self.mirrors()[mirror].head.as_ref().is_none_or(|found| found.file != plan.release.head)
    }

    /// Whether some mirror's head is older than another's, or its pages may be.
    pub fn is_uneven(&self) -> bool {
        let is_older =
            |m: &OpenMirror| m.head.as_ref().is_some_and(|found| Some(&found.head) != self.base.head.as_ref());
        self.mirrors().iter().any(|m| m.is_up() && (m.is_unfinished() || is_older(m)))
    }

    async fn render_pages(&self, plan: &Plan) -> Result<Vec<Object>, Error> {
        let mut names = self.repository.verified_images();
        names.insert(self.name.clone());
        let names: Vec<Name> = names.into_iter().collect();
        let templates = self.repository.config.templates();
        let mut pages = pages::render(templates.as_deref(), &plan.head, self.trust.key(), &names)?;
        let (new, progress) = (&plan.release.objects, &*self.repository.watch.progress);
        pages.extend(boot_menu::render(templates.as_deref(), &plan.head, new, self.mirrors(), progress).await?);
        Ok(pages)
    }

    fn report(&self, plan: &Plan) -> Report {
        let previous = self.base.head.as_ref().map(Head::newest).map(|row| row.version.number());
        let mut report = Report::of(plan, previous, self.started);
        report.public_key = self.trust.key().map(ToString::to_string);
        report.new_key_file = self.new_key_file.as_ref().map(|file| file.display().to_string());
        report
    }
}

fn unverified(mirror: &OpenMirror, path: &RepoPath, why: &str) -> Error {
    Error::new(ErrorKind::Unverified, format!("{}/{path}: {why}", mirror.store.location()))
}
