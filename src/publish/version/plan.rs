//! What a publish will do, decided before anything is switched: the new index, the new head, the objects they need.
//!
//! Nothing is read or written here, and the only thing made is signatures; `--dry-run` ends after it.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::release::Release;
use crate::error::Error;
use crate::format::comment;
use crate::format::digest::Sha256;
use crate::format::head::{FileRow, Head, HeadSignature, Note, SignedHead, VersionRow};
use crate::format::index::{FILE_MAX_BYTES, Header, Index, Split};
use crate::format::layout::RepoPath;
use crate::format::name::{Label, Name};
use crate::format::profile::ship::put_row;
use crate::format::retirement::Retirement;
use crate::format::signing::SecretKey;
use crate::format::time::Timestamp;
use crate::publish::artifact::boot_files;
use crate::publish::artifact::client::Client;
use crate::publish::artifact::profile::{Profiles, Shipped};
use crate::publish::base::{Base, no_good_index};
use crate::publish::object::Object;
use crate::publish::pipeline::cut::CutImage;
use crate::publish::repository::mirror::OpenMirror;
use crate::publish::repository::options::Repository;
use crate::weaken::{self, Weakness};

/// From how many per cent of its limit on a head is said to be nearly full.
const NEARLY_FULL_PERCENT: usize = 80;
/// How far ahead of this machine's clock the head before may be before that is said.
const AHEAD_DAYS: u32 = 1;

/// What the new state of the repository is.
pub struct Plan {
    /// What becomes of the image.
    pub outcome: Outcome,
    /// What the pass over it found.
    pub cut: CutImage,
    /// How it was cut.
    pub rule: Split,
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
    /// What the user should know of it.
    pub warnings: Vec<String>,
}

/// A head that is being made, and what no longer had room in it.
struct Draft {
    head: Head,
    dropped: Vec<(VersionRow, Vec<FileRow>)>,
    warnings: Vec<String>,
}

/// All that a plan depends on.
pub struct Planner<'a> {
    /// How the repository is worked on.
    pub repository: &'a Repository,
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
    /// The clients that the head before does not name in their version.
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
    pub fn plan(&self, cut: CutImage, rule: Split) -> Result<Plan, Error> {
        let previous = self.base.head.as_ref().map(Head::newest);
        let version = self.base.next_version()?;
        let created = previous.map_or(self.now, |row| self.now.max(row.created));
        let header = Header {
            image: self.name.clone(),
            version,
            created,
            size: cut.size,
            split: rule.clone(),
            parent: previous.map(|row| row.index_sha256),
        };
        let index = Index::new(header, cut.blocks.clone(), cut.extents.clone());
        let index = index.map_err(|e| Error::local(format!("the image cannot be published: {e}")))?;
        let unchanged = !self.force && self.base.newest().is_some_and(|newest| newest.same_content(&index));
        if unchanged { self.plan_unchanged(cut, rule) } else { self.plan_version(cut, rule, index) }
    }

    fn plan_version(&self, cut: CutImage, rule: Split, index: Index) -> Result<Plan, Error> {
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
        let draft = self.draft(Some(row), profile.as_ref());
        let profile_blocks = profile.as_ref().map(|profile| profile.blocks);
        objects.splice(0..0, self.profile_objects(profile)?);
        objects.splice(0..0, boot_files::signed(self.boot, self.key)?);
        objects.splice(0..0, self.client_objects());
        objects.splice(0..0, self.records(draft.head.created, &draft.dropped)?);
        let index_bytes = file.len() as u64;
        self.finish_plan(Plan {
            outcome: Outcome::Published,
            cut,
            rule,
            index_bytes,
            release: Release { image: self.name.clone(), newest: Arc::new(index), objects, head: Bytes::new() },
            head: draft.head,
            profile_blocks,
            switch: true,
            warnings: draft.warnings,
        })
    }

    /// The newest version stays, and all mirrors get what the others have.
    ///
    /// # Errors
    /// No version to keep; a key that cannot sign.
    pub fn plan_standing(&self) -> Result<Plan, Error> {
        let newest = self.newest_index()?;
        self.plan_unchanged(CutImage::of(&newest), newest.header().split.clone())
    }

    /// The newest version once more, under the next number.
    ///
    /// # Errors
    /// No version; a key that cannot sign.
    pub fn plan_again(&self) -> Result<Plan, Error> {
        let newest = self.newest_index()?;
        self.plan(CutImage::of(&newest), newest.header().split.clone())
    }

    /// The versions stay; the head is made anew only where something else in it has changed, and somebody can sign it.
    ///
    /// # Errors
    /// No version to keep; a given profile of which nothing is in the image; a key that cannot sign.
    pub fn plan_unchanged(&self, cut: CutImage, rule: Split) -> Result<Plan, Error> {
        let Some(old) = &self.base.head else { return Err(Error::local("there is no version to keep")) };
        let newest = self.newest_index()?;
        let profile = self.profiles.of_kept(self.base)?;
        let profile_blocks = profile.as_ref().map(|profile| profile.blocks);
        let draft = self.draft(None, profile.as_ref());
        let switch = self.can_sign && (!draft.head.says_the_same(old) || self.repository.expires_days.is_some());
        let mut objects = [self.client_objects(), self.profile_objects(profile)?].concat();
        if switch {
            objects.splice(0..0, self.records(draft.head.created, &draft.dropped)?);
        }
        self.finish_plan(Plan {
            outcome: Outcome::NoChange,
            cut,
            rule,
            index_bytes: old.newest().index_bytes,
            release: Release { image: self.name.clone(), newest, objects, head: Bytes::new() },
            head: if switch { draft.head } else { old.clone() },
            profile_blocks,
            switch,
            warnings: draft.warnings,
        })
    }

    /// Some versions go: the head no longer names them, nor the files that were theirs, and a record of each says so.
    ///
    /// # Errors
    /// No version to keep; a key that cannot sign.
    pub fn plan_retirement(&self, retired: &[VersionRow]) -> Result<Plan, Error> {
        let newest = self.newest_index()?;
        let mut draft = self.draft(None, None);
        let mut dropped = std::mem::take(&mut draft.dropped);
        for row in retired {
            draft.head.versions.retain(|kept| kept.version != row.version);
            let own = draft.head.files.extract_if(.., |file| file.path.belongs_to(self.name, row.version));
            dropped.push((row.clone(), own.collect()));
        }
        if draft.head.versions.is_empty() {
            return Err(Error::local("no version would be left"));
        }
        let (cut, rule) = (CutImage::of(&newest), newest.header().split.clone());
        self.finish_plan(Plan {
            outcome: Outcome::NoChange,
            cut,
            rule,
            index_bytes: draft.head.newest().index_bytes,
            release: Release {
                image: self.name.clone(),
                newest,
                objects: self.records(draft.head.created, &dropped)?,
                head: Bytes::new(),
            },
            head: draft.head,
            profile_blocks: None,
            switch: true,
            warnings: draft.warnings,
        })
    }

    fn newest_index(&self) -> Result<Arc<Index>, Error> {
        match (self.base.indexes.first(), &self.base.head) {
            (Some((_, index)), _) => Ok(Arc::clone(index)),
            (None, Some(head)) => Err(no_good_index(&head.image, head.newest())),
            (None, None) => Err(Error::local("there is no version to keep")),
        }
    }

    /// The records of versions that a head of the time `marked` is the first one not to name.
    ///
    /// # Errors
    /// A key that cannot sign.
    pub fn records(&self, marked: Timestamp, dropped: &[(VersionRow, Vec<FileRow>)]) -> Result<Vec<Object>, Error> {
        let record = |(row, files): &(VersionRow, Vec<FileRow>)| {
            let retirement = Retirement {
                image: self.name.clone(),
                marked,
                row: VersionRow { new_bytes: 0, label: None, ..row.clone() },
                files: files.clone(),
            };
            let seal = self.seal(&retirement.body(), &retirement.trusted_comment())?;
            Ok(Object::new(retirement.path(), retirement.to_bytes(&seal)))
        };
        dropped.iter().map(record).collect()
    }

    fn seal(&self, body: &[u8], trusted_comment: &str) -> Result<HeadSignature, Error> {
        let Some(key) = self.key else { return Ok(HeadSignature::Unsigned) };
        let signed = key.sign(body, trusted_comment).map_err(|e| Error::local(e.to_string()))?;
        Ok(HeadSignature::Signed(Box::new(signed)))
    }

    /// Seals the head, unless the one that stands is to stay to the letter.
    fn finish_plan(&self, mut plan: Plan) -> Result<Plan, Error> {
        if self.repository.dry_run {
            plan.outcome = Outcome::DryRun;
        }
        if !plan.switch {
            let newest = self.mirrors.iter().filter_map(|m| m.head.as_ref());
            let standing = newest.filter(|f| f.head == plan.head).map(|f| f.file.clone()).next();
            plan.release.head = standing.ok_or_else(|| Error::local("the standing head is gone"))?;
            return Ok(plan);
        }
        self.base.head.iter().try_for_each(refuse_binding)?;
        let seal = self.seal(&plan.head.body(), &plan.head.trusted_comment())?;
        let sealed = SignedHead::new(plan.head.clone(), seal).map_err(|e| Error::local(e.to_string()))?;
        plan.release.head = sealed.to_bytes().into();
        Ok(plan)
    }

    /// The next head: all versions that the one before names, and a new one before them.
    fn draft(&self, row: Option<VersionRow>, profile: Option<&Shipped>) -> Draft {
        let old = self.base.head.as_ref();
        // Of two heads it can always be told which one is newer.
        let created = old.map_or(self.now, |head| head.created.next().max(self.now));
        let is_new = row.is_some();
        let held = old.iter().flat_map(|head| head.versions.iter().cloned()).filter(|row| self.stays(row));
        let versions = row.into_iter().chain(held).collect();
        let mut mirrors: Vec<_> = self.repository.mirrors.mirrors.iter().filter_map(|m| m.read.clone()).collect();
        mirrors.dedup();
        let mut head = Head {
            image: self.name.clone(),
            created,
            // A clock that was once ahead must not keep heads fresh for years.
            expires: self.repository.expires_days.map(|days| created.min(self.now).plus_days(days)),
            mirrors,
            files: self.files(),
            notes: old.map_or_else(Vec::new, |head| head.notes.clone()),
            versions,
        };
        if let Some(profile) = profile {
            let newest = head.newest().version;
            put_row(&mut head.files, self.name, newest, profile.row.clone());
        }
        if is_new {
            boot_files::put_rows(&mut head, self.boot);
        }
        let dropped = head.drop_oldest_beyond_limit();
        let warnings = self.warnings(&head, &dropped);
        Draft { head, dropped, warnings }
    }

    /// Whether a version that was in the history stays in it: always.
    fn stays(&self, row: &VersionRow) -> bool {
        !weaken::is(Weakness::History) || self.base.indexes.iter().any(|(read, _)| read == row)
    }

    fn warnings(&self, head: &Head, dropped: &[(VersionRow, Vec<FileRow>)]) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some((oldest, _)) = dropped.last() {
            warnings.push(format!(
                "the head of {} is full: {} versions up to {} are retired; hfl gc --keep N retires more at once",
                self.name,
                dropped.len(),
                dropped.first().map_or(oldest.version, |(row, _)| row.version)
            ));
        } else if head.fullness_percent() >= NEARLY_FULL_PERCENT {
            let percent = head.fullness_percent();
            warnings.push(format!("the head of {} is full by {percent} %: hfl gc retires old versions", self.name));
        }
        let is_ahead = |old: &Head| old.created > self.now.plus_days(AHEAD_DAYS);
        if let Some(old) = self.base.head.as_ref().filter(|old| is_ahead(old)) {
            warnings.push(format!(
                "the head of {} was made {}, which is after this machine's {}: is the clock right?",
                self.name, old.created, self.now
            ));
        }
        warnings
    }

    /// The files of the head before, and the clients of this run.
    fn files(&self) -> Vec<FileRow> {
        let mut files: Vec<FileRow> = self.base.head.iter().flat_map(|head| head.files.clone()).collect();
        files.extend(self.clients.iter().flat_map(Client::rows));
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }

    /// The profile, unless the head before names the very same.
    fn profile_objects(&self, profile: Option<Shipped>) -> Result<Vec<Object>, Error> {
        let published = |shipped: &Shipped| self.base.head.iter().flat_map(|h| &h.files).any(|f| *f == shipped.row);
        let new = profile.filter(|shipped| !published(shipped));
        new.map_or(Ok(Vec::new()), |shipped| shipped.objects(self.key))
    }

    fn client_objects(&self) -> Vec<Object> {
        self.clients.iter().flat_map(Client::objects).cloned().collect()
    }

    fn index_objects(&self, row: &VersionRow, path: &RepoPath, file: &Bytes) -> Result<Vec<Object>, Error> {
        let index = Object::new(path.clone(), file.clone());
        let comment = comment::index(self.name, row.version, &row.index_sha256);
        let signature = self.key.map(|key| index.signature(key, &comment)).transpose()?;
        Ok(signature.into_iter().chain([index]).collect())
    }
}

/// What a later hfl forbade this one: to sign a head that it would make with less than all that belongs into it.
fn refuse_binding(head: &Head) -> Result<(), Error> {
    let Some(note) = head.binding_note() else { return Ok(()) };
    Err(newer_publisher(&head.image, note))
}

/// The error of a head that only a later hfl may follow.
pub fn newer_publisher(image: &Name, note: &Note) -> Error {
    let message = format!("{image}: its head has the note `{note}`, which this hfl does not know; nothing was changed");
    Error::local(message).hint("update hfl: a newer one publishes this image")
}

/// What became of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A new version.
    Published,
    /// The newest version already is this image.
    NoChange,
    /// Nothing was to be written.
    DryRun,
}
