//! What a publish will do, decided before anything is switched: the new index, the new head, the objects they need.
//!
//! Nothing is read or written here, and the only thing made is signatures; `--dry-run` ends after it.

use std::sync::Arc;

use bytes::Bytes;

use super::base::Base;
use super::boot_files;
use super::client::Client;
use super::cut::CutImage;
use super::error::Error;
use super::mirror::OpenMirror;
use super::options::Work;
use super::profile::{Profiles, Shipped};
use super::release::{Object, Release};
use super::report::Outcome;
use super::retired::Retired;
use crate::digest::Sha256;
use crate::head::{FileRow, Head, Seal, SealedHead, VersionRow};
use crate::index::{FILE_MAX_BYTES, Header, Index};
use crate::layout::RepoPath;
use crate::name::{Label, Name, Version};
use crate::profile::ship::put_row;
use crate::sign::SecretKey;
use crate::split::Rule;
use crate::time::Timestamp;

/// What the new state of the repository is.
pub struct Plan {
    /// What becomes of the image.
    pub outcome: Outcome,
    /// What the pass over it found.
    pub cut: CutImage,
    /// How it was cut.
    pub rule: Rule,
    /// Bytes of the newest index.
    pub index_bytes: u64,
    /// What the heads are to say.
    pub head: Head,
    /// What the mirrors must hold before they say it.
    pub release: Release,
    /// Blocks of the profile that the newest version is shipped with, where this run ships one.
    pub profile_blocks: Option<u64>,
    /// Whether the heads must be replaced at all.
    pub switch: bool,
}

/// All that a plan depends on.
pub struct Planner<'a> {
    /// How the repository is worked on.
    pub work: &'a Work,
    /// The image.
    pub name: &'a Name,
    /// What is said of the new version.
    pub label: Option<&'a Label>,
    /// Makes a new version even where nothing has changed.
    pub force: bool,
    /// What is there.
    pub base: &'a Base,
    /// Who signs.
    pub key: Option<&'a SecretKey>,
    /// Whether a new head can be made at all.
    pub can_sign: bool,
    /// The clients that are to be shipped.
    pub clients: &'a [Client],
    /// The profiles there are to ship.
    pub profiles: &'a Profiles,
    /// What the new version is booted with.
    pub boot: &'a [Object],
    /// The mirrors, with the heads they have.
    pub mirrors: &'a [OpenMirror],
    /// The time of this publish.
    pub now: Timestamp,
}

impl Planner<'_> {
    /// What the repository is to be after this.
    ///
    /// # Errors
    /// An image that the format cannot hold; a key that cannot sign.
    pub fn plan(&self, cut: CutImage, rule: Rule) -> Result<Plan, Error> {
        let previous = self.base.head.as_ref().map(Head::newest);
        let version = self.base.next_version()?;
        let created = previous.map_or(self.now, |row| self.now.max(row.created));
        let header = Header {
            image: self.name.clone(),
            version,
            created,
            size: cut.size,
            split: rule,
            parent: previous.map(|row| row.index_sha256),
        };
        let index = Index::new(header, cut.blocks.clone(), cut.extents.clone());
        let index = index.map_err(|e| Error::local(format!("the image cannot be published: {e}")))?;
        let unchanged = !self.force && self.base.newest().is_some_and(|newest| newest.same_content(&index));
        if unchanged { self.plan_unchanged(cut, rule) } else { self.plan_version(cut, rule, index) }
    }

    fn plan_version(&self, cut: CutImage, rule: Rule, index: Index) -> Result<Plan, Error> {
        let file: Bytes = index.to_bytes().into();
        if file.len() as u64 > FILE_MAX_BYTES {
            return Err(Error::local(format!("the index has {} bytes, at most {FILE_MAX_BYTES}", file.len()))
                .hint("use larger blocks: --split fixed:1M"));
        }
        let row = VersionRow {
            version: index.header().version,
            index_bytes: file.len() as u64,
            index_sha256: Sha256::of(&file),
            created: index.header().created,
            size: cut.size,
            new_bytes: cut.new.zlib_bytes,
            label: self.label.cloned(),
        };
        let path = row.index_path(self.name);
        let profile = self.profiles.of_new(self.base, &index)?;
        let mut objects = self.index_objects(&row, &path, &file)?;
        let mut head = self.head(Some(row), profile.as_ref());
        boot_files::put_rows(&mut head, self.boot);
        head.drop_oldest_beyond_limit();
        let mut indexes = vec![Arc::new(index)];
        indexes.extend(self.base.indexes.iter().map(|(_, index)| Arc::clone(index)));
        let profile_blocks = profile.as_ref().map(|profile| profile.blocks);
        objects.splice(0..0, self.profile_objects(profile)?);
        objects.splice(0..0, boot_files::signed(self.boot, self.key)?);
        objects.splice(0..0, self.client_objects());
        let index_bytes = file.len() as u64;
        self.finish_plan(Plan {
            outcome: Outcome::Published,
            cut,
            rule,
            index_bytes,
            release: Release { image: self.name.clone(), indexes, objects, head: Bytes::new() },
            head,
            profile_blocks,
            switch: true,
        })
    }

    /// The newest version stays, and all mirrors get what the others have.
    ///
    /// # Errors
    /// No version to keep; a key that cannot sign.
    pub fn plan_standing(&self) -> Result<Plan, Error> {
        let Some(newest) = self.base.newest() else { return Err(Error::local("there is no version to keep")) };
        self.plan_unchanged(CutImage::of(newest), newest.header().split)
    }

    /// The versions stay; the head is made anew only where something else in it has changed, and somebody can sign it.
    ///
    /// # Errors
    /// No version to keep; a given profile of which nothing is in the image; a key that cannot sign.
    pub fn plan_unchanged(&self, cut: CutImage, rule: Rule) -> Result<Plan, Error> {
        let Some(old) = &self.base.head else { return Err(Error::local("there is no version to keep")) };
        let profile = self.profiles.of_kept(self.base)?;
        let profile_blocks = profile.as_ref().map(|profile| profile.blocks);
        let head = self.head(None, profile.as_ref());
        let same = |a: &Head, b: &Head| a.mirrors == b.mirrors && a.files == b.files && a.versions == b.versions;
        let switch = self.can_sign && (!same(&head, old) || self.work.expires_days.is_some());
        self.finish_plan(Plan {
            outcome: Outcome::NoChange,
            cut,
            rule,
            index_bytes: old.newest().index_bytes,
            release: Release {
                image: self.name.clone(),
                indexes: self.base.indexes.iter().map(|(_, index)| Arc::clone(index)).collect(),
                objects: [self.client_objects(), self.profile_objects(profile)?].concat(),
                head: Bytes::new(),
            },
            head: if switch { head } else { old.clone() },
            profile_blocks,
            switch,
        })
    }

    /// Some versions go: the head no longer names them, nor the files that were theirs, and a record of each says so.
    ///
    /// # Errors
    /// No version to keep; a key that cannot sign.
    pub fn plan_retirement(&self, retired: &[Retired]) -> Result<Plan, Error> {
        let gone = |version: Version| retired.iter().any(|r| r.row.version == version);
        let mut head = self.head(None, None);
        head.versions.retain(|row| !gone(row.version));
        head.files.retain(|file| !retired.iter().any(|r| r.files.contains(file)));
        let kept = self.base.indexes.iter().filter(|(row, _)| !gone(row.version));
        let indexes: Vec<_> = kept.map(|(_, index)| Arc::clone(index)).collect();
        let Some(newest) = indexes.first() else { return Err(Error::local("no version would be left")) };
        let (cut, rule) = (CutImage::of(newest), newest.header().split);
        self.finish_plan(Plan {
            outcome: Outcome::NoChange,
            cut,
            rule,
            index_bytes: head.newest().index_bytes,
            release: Release {
                image: self.name.clone(),
                indexes,
                objects: retired.iter().map(Retired::object).collect::<Result<_, _>>()?,
                head: Bytes::new(),
            },
            head,
            profile_blocks: None,
            switch: true,
        })
    }

    /// Seals the head, unless the one that stands is to stay to the letter.
    fn finish_plan(&self, mut plan: Plan) -> Result<Plan, Error> {
        if self.work.dry_run {
            plan.outcome = Outcome::DryRun;
        }
        if !plan.switch {
            let newest = self.mirrors.iter().filter_map(|m| m.head.as_ref());
            let standing = newest.filter(|f| f.head == plan.head).map(|f| f.file.clone()).next();
            plan.release.head = standing.ok_or_else(|| Error::local("the standing head is gone"))?;
            return Ok(plan);
        }
        let seal = match self.key {
            None => Seal::Unsigned,
            Some(key) => {
                let signed = key.sign(&plan.head.body(), &plan.head.trusted_comment());
                Seal::Signed(Box::new(signed.map_err(|e| Error::local(e.to_string()))?))
            }
        };
        let sealed = SealedHead::new(plan.head.clone(), seal).map_err(|e| Error::local(e.to_string()))?;
        plan.release.head = sealed.to_bytes().into();
        Ok(plan)
    }

    fn head(&self, row: Option<VersionRow>, profile: Option<&Shipped>) -> Head {
        let old = self.base.head.as_ref();
        // Of two heads it can always be told which one is newer.
        let created = old.map_or(self.now, |head| head.created.next().max(self.now));
        let mut versions: Vec<VersionRow> = row.into_iter().collect();
        versions.extend(self.base.indexes.iter().map(|(row, _)| row.clone()));
        let mut mirrors: Vec<_> = self.work.mirrors.mirrors.iter().filter_map(|m| m.read.clone()).collect();
        mirrors.dedup();
        let mut head = Head {
            image: self.name.clone(),
            created,
            expires: self.work.expires_days.map(|days| created.plus_days(days)),
            mirrors,
            files: self.files(),
            versions,
        };
        if let Some(profile) = profile {
            let newest = head.newest().version;
            put_row(&mut head.files, self.name, newest, profile.row.clone());
        }
        head.drop_oldest_beyond_limit();
        head
    }

    /// The files of the head before, and the clients of this run.
    fn files(&self) -> Vec<FileRow> {
        let mut files: Vec<FileRow> = self.base.head.iter().flat_map(|head| head.files.clone()).collect();
        files.extend(self.new_clients().flat_map(Client::rows));
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }

    /// The profile, unless the head before names the very same.
    fn profile_objects(&self, profile: Option<Shipped>) -> Result<Vec<Object>, Error> {
        let published = |shipped: &Shipped| self.base.head.iter().flat_map(|h| &h.files).any(|f| *f == shipped.row);
        let new = profile.filter(|shipped| !published(shipped));
        new.map_or(Ok(Vec::new()), |shipped| shipped.objects(self.key))
    }

    /// The clients that are not published yet with this image in their version: those that are stay as they are.
    fn new_clients(&self) -> impl Iterator<Item = &Client> {
        self.clients.iter().filter(|client| !self.base.head.iter().any(|head| client.is_in(head)))
    }

    fn client_objects(&self) -> Vec<Object> {
        self.new_clients().flat_map(Client::objects).cloned().collect()
    }

    fn index_objects(&self, row: &VersionRow, path: &RepoPath, file: &Bytes) -> Result<Vec<Object>, Error> {
        let index = Object::new(path.clone(), file.clone());
        let comment = format!("hfl index {} {} {}", self.name, row.version, row.index_sha256);
        let signature = self.key.map(|key| index.signature(key, &comment)).transpose()?;
        Ok(signature.into_iter().chain([index]).collect())
    }
}
