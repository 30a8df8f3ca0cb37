//! Work on one image of an open repository: its base, its key, and carrying out plans on the mirrors.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::plan::{Plan, Planner};
use super::report::{MirrorReport, Report};
use crate::error::{Error, ErrorKind};
use crate::format::block::BlockRow;
use crate::format::digest::BlockId;
use crate::format::head::{Head, Trust};
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

/// Approximate size of a signature in bytes.
const SIGNATURE_BYTES: u64 = 350;

/// Blocks already reported as to be sent, with the mirror's index in mirrors.toml: images share blocks, and each is
/// sent once.
pub type Planned = HashSet<(usize, BlockId)>;

/// The upload queue of each participating mirror, in the order of mirrors.toml.
pub type Uploads = Vec<Option<Uploader>>;

/// The key that signs new heads, and which existing heads are accepted.
pub struct Signer {
    /// The secret key, if it is available.
    pub key: Option<FoundKey>,
    /// The trust applied to existing heads.
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
    /// How to make damaged blocks again.
    pub remake: Option<Remake>,
    profiles: Profiles,
    boot: Vec<Object>,
    pub now: Timestamp,
    started: Instant,
    /// For each mirror, whether work on an earlier image was left unfinished.
    undone_before: Vec<bool>,
}

impl Signer {
    /// For a first or further version: a key is generated if there is none.
    ///
    /// # Errors
    /// The key cannot be read.
    pub fn for_version(keyring: Option<&Keyring>, name: &Name) -> Result<Self, Error> {
        Ok(Self::with(keyring.map(|keyring| keyring.find(name)).transpose()?))
    }

    /// For a new head of an existing image.
    ///
    /// # Errors
    /// The key cannot be read, or there is none.
    pub fn for_change(keyring: Option<&Keyring>, name: &Name) -> Result<Self, Error> {
        Ok(Self::with(keyring.map(|keyring| keyring.find_kept(name)).transpose()?))
    }

    /// For copying heads to more mirrors; new heads are made only if the secret key is available.
    pub fn for_copies(keyring: Option<&Keyring>, name: &Name, trust: Trust) -> Self {
        let kept = keyring.and_then(|keyring| keyring.find_kept(name).ok());
        Self { key: kept.filter(|found| trust == Trust::Key(found.key.public().clone())), trust }
    }

    fn with(key: Option<FoundKey>) -> Self {
        let trust = key.as_ref().map_or(Trust::Anyone, |found| Trust::Key(found.key.public().clone()));
        Self { key, trust }
    }

    /// The keys whose heads are accepted in a repository where this signer publishes.
    pub fn policy(&self, keyring: Option<&Keyring>, name: &Name) -> TrustPolicy {
        let known = keyring.map(Keyring::known_keys).unwrap_or_default();
        TrustPolicy::Known(known).with(name, &self.trust)
    }
}

impl<'a> Session<'a> {
    /// Begins work on image `name`, of which a new version may be made.
    ///
    /// # Errors
    /// The repository is in a state that cannot be built upon; no mirror is usable.
    pub async fn begin(repository: &'a mut OpenRepository, name: Name, signer: Signer) -> Result<Self, Error> {
        Self::open(repository, name, signer, Reuse::All).await
    }

    /// Like [`Session::begin`], for keeping the newest version. If all mirrors agree on the image, almost nothing is
    /// read: otherwise work on all images would read all images once for each of them.
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

    /// Takes the heads of this image from the survey. A head that does not verify excludes only its mirror, as long as
    /// another mirror has one that does.
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
            // With `--first` the user accepts this; otherwise one mirror could block a name on all mirrors.
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

    /// Determines what each mirror holds beyond what its head vouches for.
    async fn look_at_presence(&mut self) {
        let left_undone = self.repository.mirrors.iter_mut().filter(|mirror| mirror.is_up() && mirror.is_unfinished());
        left_undone.for_each(|mirror| mirror.presence = Presence::Likely);
        if self.repository.config.check == Check::List {
            self.keep_listed().await;
        }
    }

    /// Counts a block as held by a mirror only if its listing has it with the right size, or it reads back correctly.
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

    /// Saves a new key before anything signed with it can exist.
    fn save_key(&mut self) -> Result<(), Error> {
        if self.repository.config.dry_run {
            return Ok(());
        }
        if let (Some(keyring), Some(key)) = (&self.repository.config.keyring, &self.key) {
            self.new_key_file = keyring.save(key, &self.name)?;
        }
        Ok(())
    }

    /// The error if no mirror is left.
    pub fn all_failed(&self) -> Option<Error> {
        self.repository.all_failed()
    }

    /// Marks the mirrors: from now on they may hold objects that no head names.
    pub fn touch(&mut self) {
        self.repository.mirrors.iter_mut().filter(|m| m.is_up()).for_each(|m| m.undone = true);
    }

    /// Marks the mirrors that are up as current: they have everything this run was to bring them.
    pub fn settle(&mut self) {
        for (mirror, before) in self.repository.mirrors.iter_mut().zip(&self.undone_before) {
            mirror.is_current = mirror.is_up();
            mirror.undone = if mirror.is_current { *before } else { mirror.undone };
            mirror.is_resumed |= mirror.is_current && mirror.is_unfinished();
        }
    }

    /// Starts an upload queue for each participating mirror.
    pub fn start_uploads(&mut self) -> Uploads {
        self.touch();
        let progress = &self.repository.watch.progress;
        self.mirrors()
            .iter()
            .map(|m| m.is_up().then(|| Uploader::start(m, m.presence.clone(), Arc::clone(progress))))
            .collect()
    }

    /// Chooses the profile of a new version: the one `given`, else that of the first of `versions` that has one, else
    /// that of the newest version.
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

    /// Sets the boot files of the new version; returns true if they differ from those of the newest version.
    ///
    /// # Errors
    /// The miniroot cannot be built.
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

    /// Reuses the boot files of version `old` for a new version with its contents.
    ///
    /// # Errors
    /// No mirror has a good copy of a file.
    pub async fn boot_again(&mut self, old: Version) -> Result<(), Error> {
        self.boot = boot_files::again(&self.base, self.mirrors(), old, self.base.next_version()?).await?;
        Ok(())
    }

    /// The planner for this image.
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
    /// Too few mirrors got that far; interrupted by the user. A single failed mirror is only noted in the report.
    pub async fn carry_out(&mut self, plan: &Plan, uploads: Uploads) -> Result<Report, Error> {
        self.warn(plan);
        let mut report = self.report(plan);
        let pages = self.render_pages(plan).await?;
        report.mirrors = self.release(plan, &pages, uploads).await?;
        report.finish(self.started);
        self.all_failed().map_or(Ok(report), Err)
    }

    /// Reports what a plan would do, except for blocks in `planned`.
    ///
    /// # Errors
    /// A template cannot be rendered.
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

    /// Blocks that other mirrors hold and this one does not, and that were made again from the image.
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

    /// Whether the mirror's head differs from the plan's.
    pub fn is_behind(&self, plan: &Plan, mirror: usize) -> bool {
        self.mirrors()[mirror].head.as_ref().is_none_or(|found| found.file != plan.release.head)
    }

    /// Whether some mirror's head, or its pages, may be older than another's.
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
