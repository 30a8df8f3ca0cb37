//! Work on one image of an open repository: what its next version builds on, and the planner for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::lost::lost;
use super::plan::{Extras, Plan, Planner};
use super::report::Report;
use crate::error::Error;
use crate::format::head::{FileRow, Head};
use crate::format::name::{Label, Name, Version};
use crate::format::time::Timestamp;
use crate::publish::artifact::boot_files::{self, BootFiles};
use crate::publish::artifact::client::{self, Client};
use crate::publish::artifact::profile::{self, Given, Profiles};
use crate::publish::base::{self, Base, Reuse, presence};
use crate::publish::object::Object;
use crate::publish::pipeline::upload::{Uploader, Uploads};
use crate::publish::repository::OpenRepository;
use crate::publish::repository::locked::LockedImage;
use crate::publish::repository::mirror::OpenMirror;
use crate::publish::repository::options::Check;
use crate::publish::repository::signer::Signer;
use crate::system::bridge;

/// An image being worked on, and what its next version builds on.
pub struct Session<'a> {
    pub repository: &'a mut OpenRepository,
    pub name: Name,
    pub signer: Signer,
    pub base: Base,
    pub now: Timestamp,
    clients: Vec<Client>,
    lost: Vec<FileRow>,
    new_key_file: Option<PathBuf>,
    started: Instant,
    /// For each mirror, whether work on an earlier image was left unfinished.
    undone_before: Vec<bool>,
}

impl<'a> Session<'a> {
    /// Begins work on image `name`, of which a new version may be made.
    ///
    /// # Errors
    /// The repository is in a state that cannot be built upon; no mirror is usable.
    pub async fn begin(repository: &'a mut OpenRepository, name: Name, signer: Signer) -> Result<Self, Error> {
        Self::open(LockedImage::new(repository, name, signer)?, Reuse::All).await
    }

    /// Like [`Session::begin`], for keeping the newest version. If all mirrors agree on the image, almost nothing is
    /// read: otherwise work on all images would read all images once for each of them.
    ///
    /// # Errors
    /// Those of [`Session::begin`].
    pub async fn begin_standing(repository: &'a mut OpenRepository, name: Name, signer: Signer) -> Result<Self, Error> {
        let is_alike = repository.config.check != Check::List && repository.agrees_on(&name);
        let reuse = if is_alike { Reuse::Newest } else { Reuse::All };
        Self::open(LockedImage::new(repository, name, signer)?, reuse).await
    }

    async fn open(mut image: LockedImage<'a>, reuse: Reuse) -> Result<Self, Error> {
        let (started, now) = (Instant::now(), image.repository.config.host.now());
        let undone_before = image.repository.mirrors.iter().map(|m| m.undone).collect();
        let remembered = image.repository.config.memory.recall(&image.name, &image.signer.trust)?;
        image.leave_unmounted(&remembered);
        let mut base = base::find(image.repository, &image.name, reuse).await?;
        image.take_numbers(&mut base, &remembered).await?;
        let LockedImage { repository, name, signer } = image;
        presence::look(repository, &mut base).await;
        let clients = match signer.can_sign() {
            true => client::new(repository.programs()?, base.head.as_ref(), signer.secret())?,
            false => Vec::new(),
        };
        let lost = match &base.head {
            Some(head) => lost(head, &repository.mirrors, repository.config.check).await,
            None => Vec::new(),
        };
        let new_key_file = save_key(repository, &signer, &name, base.head.is_none())?;
        repository.all_failed().map_or(Ok(()), Err)?;
        Ok(Self { repository, name, signer, base, now, clients, lost, new_key_file, started, undone_before })
    }

    pub fn mirrors(&self) -> &[OpenMirror] {
        &self.repository.mirrors
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

    /// Starts an upload queue for each participating mirror; none in a dry run.
    pub fn start_uploads(&mut self) -> Uploads {
        if self.repository.config.dry_run {
            return Vec::new();
        }
        self.touch();
        let progress = &self.repository.watch.progress;
        let start = |m: &OpenMirror| Uploader::start(m, m.presence.clone(), Arc::clone(progress));
        self.mirrors().iter().map(|m| m.is_up().then(|| start(m))).collect()
    }

    /// The profiles for a new version: the one `given`, else that of the first of `versions` that has one, else that of
    /// the newest version.
    pub async fn profiles(&self, given: Option<Given>, versions: &[Version]) -> Profiles {
        let newest = self.base.head.as_ref().map(|head| head.newest().version);
        let versions: Vec<Version> = versions.iter().copied().chain(newest).collect();
        let progress = &*self.repository.watch.progress;
        let previous = match given {
            Some(_) => None,
            None => profile::held(&self.base, self.mirrors(), &versions, progress).await,
        };
        Profiles { given, previous }
    }

    /// The boot files of a new version, and whether they differ from those of the newest version.
    ///
    /// # Errors
    /// The miniroot cannot be built.
    pub async fn boot_files(&self, files: BootFiles) -> Result<(Vec<Object>, bool), Error> {
        let next = self.base.next_version()?;
        let (image, head) = (self.name.clone(), self.base.head.clone());
        let key = self.signer.secret().map(|key| key.public().clone());
        let made = bridge::blocking(move || {
            let same = match &head {
                None => false,
                Some(head) => boot_files::are_named(head, &files.of(&image, head.newest().version, key.as_ref())?),
            };
            Ok((files.of(&image, next, key.as_ref())?, !same))
        });
        made.await
    }

    /// The boot files of version `old`, for a new version with its contents.
    ///
    /// # Errors
    /// No mirror has a good copy of a file.
    pub async fn boot_files_of(&self, old: Version) -> Result<Vec<Object>, Error> {
        boot_files::again(&self.base, self.mirrors(), old, self.base.next_version()?).await
    }

    /// The planner for this image; `extras` come with a new version.
    pub fn planner<'b>(&'b self, label: Option<&'b Label>, force: bool, extras: &'b Extras) -> Planner<'b> {
        Planner {
            repository: &self.repository.config,
            name: &self.name,
            label,
            force: force || self.base.conflict.is_some(),
            base: &self.base,
            signer: &self.signer,
            clients: &self.clients,
            lost: &self.lost,
            extras,
            mirrors: self.mirrors(),
            now: self.now,
        }
    }

    /// The report of a plan, before anything was sent.
    pub fn report(&self, plan: &Plan) -> Report {
        let previous = self.base.head.as_ref().map(Head::newest).map(|row| row.version.number());
        let mut report = Report::of(plan, previous, self.started);
        report.public_key = self.signer.trust.key().map(ToString::to_string);
        report.new_key_file = self.new_key_file.as_ref().map(|file| file.display().to_string());
        report
    }

    /// Ends the report with the time taken, and releases the repository.
    ///
    /// # Errors
    /// No mirror is left.
    pub fn finish(self, mut report: Report) -> Result<Report, Error> {
        report.finish(self.started);
        self.repository.all_failed().map_or(Ok(report), Err)
    }
}

/// Saves a new key before anything signed with it can exist. Returns its file, or that of an earlier run's key if this is
/// the first version.
fn save_key(
    repository: &OpenRepository,
    signer: &Signer,
    name: &Name,
    is_first: bool,
) -> Result<Option<PathBuf>, Error> {
    match (&repository.config.keyring, &signer.key) {
        (Some(keyring), Some(key)) if !repository.config.dry_run => {
            let earlier = key.own_file().filter(|_| is_first).map(Path::to_owned);
            Ok(keyring.save(key, name)?.or(earlier))
        }
        _ => Ok(None),
    }
}
