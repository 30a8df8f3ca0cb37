//! The plan of a publish, computed before anything is switched: the new index, the new head and the objects they need.
//!
//! Nothing is read or written here; only signatures are made. `--dry-run` stops after this step.

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
use crate::format::time::Timestamp;
use crate::publish::artifact::client::Client;
use crate::publish::artifact::profile::{Profiles, Shipped};
use crate::publish::artifact::{boot_files, boot_menu};
use crate::publish::base::{Base, no_good_index};
use crate::publish::deltas::{Deltas, UpdateReport};
use crate::publish::object::Object;
use crate::publish::pipeline::cut::CutImage;
use crate::publish::repository::mirror::OpenMirror;
use crate::publish::repository::options::Repository;
use crate::publish::repository::signer::Signer;
use crate::weaken::{self, Weakness};

/// Fullness of a head, in percent of its size limit, at which a warning is given.
const NEARLY_FULL_PERCENT: usize = 80;
/// How many days the previous head may be ahead of this machine's clock before a warning is given.
const AHEAD_DAYS: u32 = 1;

/// The planned state of the repository.
pub struct Plan {
    /// The result for the image.
    pub outcome: Outcome,
    /// The result of cutting the image into blocks.
    pub cut: CutImage,
    /// The rule by which it was cut.
    pub rule: Split,
    /// Size of the newest index in bytes.
    pub index_bytes: u64,
    /// The head for all mirrors.
    pub head: Head,
    /// The objects that a mirror must hold before it gets this head.
    pub release: Release,
    /// Number of blocks in the profile of the newest version, if this run ships one.
    pub profile_blocks: Option<u64>,
    /// What the deltas of a new version save.
    pub updates: Vec<UpdateReport>,
    /// Whether the heads must be replaced.
    pub switch: bool,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// What a new version brings besides the blocks of the image.
#[derive(Default)]
pub struct Extras {
    /// The profiles to choose from.
    pub profiles: Profiles,
    /// The boot files.
    pub boot: Vec<Object>,
    /// The deltas.
    pub deltas: Option<Arc<Deltas>>,
}

/// A head being built, and the versions that no longer fit into it.
struct Draft {
    head: Head,
    dropped: Vec<(VersionRow, Vec<FileRow>)>,
    warnings: Vec<String>,
}

/// The inputs of a plan.
pub struct Planner<'a> {
    /// The repository and its options.
    pub repository: &'a Repository,
    /// Image name.
    pub name: &'a Name,
    /// Label of the new version.
    pub label: Option<&'a Label>,
    /// Makes a new version even if nothing has changed.
    pub force: bool,
    /// The state to build on.
    pub base: &'a Base,
    /// The signing key, and whether heads are signed at all.
    pub signer: &'a Signer,
    /// The clients that the previous head does not name in these versions.
    pub clients: &'a [Client],
    /// Files of the previous head that no mirror has, and without which nothing is lost.
    pub lost: &'a [FileRow],
    /// What comes with a new version.
    pub extras: &'a Extras,
    /// The mirrors with their current heads.
    pub mirrors: &'a [OpenMirror],
    /// The time of this publish.
    pub now: Timestamp,
}

impl Planner<'_> {
    /// Plans a version with the contents of `cut`, or no change if the newest version already has them.
    ///
    /// # Errors
    /// The format cannot hold the image; the key cannot sign.
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
        let profile = self.extras.profiles.of_new(self.base, &index)?;
        let mut objects = self.index_objects(&row, &path, &file)?;
        let mut draft = self.draft(Some(row), profile.as_ref(), cut.sha256);
        draft.warnings.extend(menus_stay(&draft.head));
        let profile_blocks = profile.as_ref().map(|profile| profile.blocks);
        if let Some(deltas) = &self.extras.deltas {
            objects.splice(0..0, deltas.lists(self.signer.secret())?);
        }
        objects.splice(0..0, self.profile_objects(profile)?);
        objects.splice(0..0, boot_files::signed(&self.extras.boot, self.signer.secret())?);
        objects.splice(0..0, self.client_objects());
        objects.splice(0..0, self.records(draft.head.created, &draft.dropped)?);
        let index_bytes = file.len() as u64;
        let updates = self.extras.deltas.iter().flat_map(|deltas| deltas.reports()).cloned().collect();
        self.finish_plan(Plan {
            outcome: Outcome::Published,
            cut,
            rule,
            index_bytes,
            release: Release { image: self.name.clone(), newest: Arc::new(index), objects, head: Bytes::new() },
            head: draft.head,
            profile_blocks,
            updates,
            switch: true,
            warnings: draft.warnings,
        })
    }

    /// Keeps the newest version and brings all mirrors to the same state.
    ///
    /// # Errors
    /// There is no version to keep; the key cannot sign.
    pub fn plan_standing(&self) -> Result<Plan, Error> {
        let newest = self.newest_index()?;
        self.plan_unchanged(CutImage::of(&newest), newest.header().split.clone())
    }

    /// Publishes the newest version again under the next number.
    ///
    /// # Errors
    /// There is no version; the key cannot sign.
    pub fn plan_again(&self) -> Result<Plan, Error> {
        let newest = self.newest_index()?;
        self.plan(CutImage::of(&newest), newest.header().split.clone())
    }

    /// Keeps the versions. A new head is made only if its other contents changed or heads expire, and it can be signed.
    ///
    /// # Errors
    /// There is no version to keep; nothing of a given profile is in the image; the key cannot sign.
    pub fn plan_unchanged(&self, cut: CutImage, rule: Split) -> Result<Plan, Error> {
        let Some(old) = &self.base.head else { return Err(Error::local("there is no version to keep")) };
        let newest = self.newest_index()?;
        let profile = self.extras.profiles.of_kept(self.base)?;
        let profile_blocks = profile.as_ref().map(|profile| profile.blocks);
        let draft = self.draft(None, profile.as_ref(), cut.sha256);
        let switch =
            self.signer.can_sign() && (!draft.head.says_the_same(old) || self.repository.expires_days.is_some());
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
            updates: Vec::new(),
            switch,
            warnings: draft.warnings,
        })
    }

    /// Retires versions: the new head names neither them nor their files, and a record of each is written.
    ///
    /// # Errors
    /// There is no version to keep; the key cannot sign.
    pub fn plan_retirement(&self, retired: &[VersionRow]) -> Result<Plan, Error> {
        let newest = self.newest_index()?;
        let mut draft = self.draft(None, None, None);
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
            updates: Vec::new(),
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

    /// The records of the versions that a head created at `marked` is the first not to name.
    ///
    /// # Errors
    /// The key cannot sign.
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
        let Some(key) = self.signer.secret() else { return Ok(HeadSignature::Unsigned) };
        let signed = key.sign(body, trusted_comment).map_err(|e| Error::local(e.to_string()))?;
        Ok(HeadSignature::Signed(Box::new(signed)))
    }

    /// Signs the head, unless the current one stays unchanged, byte for byte.
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
        plan.head.drop_other_image_digests();
        let seal = self.seal(&plan.head.body(), &plan.head.trusted_comment())?;
        let sealed = SignedHead::new(plan.head.clone(), seal).map_err(|e| Error::local(e.to_string()))?;
        plan.release.head = sealed.to_bytes().into();
        Ok(plan)
    }

    /// The next head: the new version, if any, then all versions of the previous head. `sha256` is that of the newest
    /// version's image.
    fn draft(&self, row: Option<VersionRow>, profile: Option<&Shipped>, sha256: Option<Sha256>) -> Draft {
        let old = self.base.head.as_ref();
        // Strictly later than the previous head, so that two heads can always be ordered.
        let created = old.map_or(self.now, |head| head.created.next().max(self.now));
        let is_new = row.is_some();
        let held = old.iter().flat_map(|head| head.versions.iter().cloned()).filter(|row| self.stays(row));
        let versions = row.into_iter().chain(held).collect();
        let mut mirrors = Vec::new();
        for url in self.repository.mirrors.mirrors.iter().filter_map(|m| m.read.as_ref()) {
            // Several mirrors may be one place to clients, such as the servers behind one name.
            if !mirrors.contains(url) {
                mirrors.push(url.clone());
            }
        }
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
            boot_files::put_rows(&mut head, &self.extras.boot);
            head.files.extend(self.extras.deltas.iter().flat_map(|deltas| deltas.rows()));
            head.files.sort_by(|a, b| a.path.cmp(&b.path));
        }
        let newest = head.newest().version;
        sha256.into_iter().for_each(|sha256| head.set_image_sha256(newest, sha256));
        let dropped = head.drop_oldest_beyond_limit();
        let warnings = self.warnings(&head, &dropped);
        Draft { head, dropped, warnings }
    }

    /// Whether a version stays in the history: always.
    fn stays(&self, row: &VersionRow) -> bool {
        !weaken::is(Weakness::History) || self.base.indexes.iter().any(|(read, _)| read == row)
    }

    fn warnings(&self, head: &Head, dropped: &[(VersionRow, Vec<FileRow>)]) -> Vec<String> {
        let lost = self.lost.iter().filter(|row| self.signer.can_sign() && !head.files.contains(row));
        let mut warnings: Vec<String> =
            lost.map(|row| format!("no mirror has a good copy of {}: it is not offered any more", row.path)).collect();
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

    /// The files of the previous head, unless they are lost, and the clients of this run.
    fn files(&self) -> Vec<FileRow> {
        let held = self.base.head.iter().flat_map(|head| &head.files);
        let mut files: Vec<FileRow> = held.filter(|row| !self.lost.contains(row)).cloned().collect();
        files.extend(self.clients.iter().flat_map(Client::rows));
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }

    /// The profile, unless the previous head names the same one.
    fn profile_objects(&self, profile: Option<Shipped>) -> Result<Vec<Object>, Error> {
        let published = |shipped: &Shipped| self.base.head.iter().flat_map(|h| &h.files).any(|f| *f == shipped.row);
        let new = profile.filter(|shipped| !published(shipped));
        new.map_or(Ok(Vec::new()), |shipped| shipped.objects(self.signer.secret()))
    }

    fn client_objects(&self) -> Vec<Object> {
        self.clients.iter().flat_map(Client::objects).cloned().collect()
    }

    fn index_objects(&self, row: &VersionRow, path: &RepoPath, file: &Bytes) -> Result<Vec<Object>, Error> {
        let index = Object::new(path.clone(), file.clone());
        let comment = comment::index(self.name, row.version, &row.index_sha256);
        let signature = self.signer.secret().map(|key| index.signature(key, &comment)).transpose()?;
        Ok(signature.into_iter().chain([index]).collect())
    }
}

/// A warning if the boot menus go on to boot an older version than the newest.
fn menus_stay(head: &Head) -> Option<String> {
    let newest = head.newest().version;
    let menus = head.versions.iter().find(|row| boot_menu::named(head, row).is_some())?.version;
    let text = format!(
        "the boot menus of {} stay at version {menus}: version {newest} has no kernel; publish with --boot",
        head.image
    );
    (menus != newest).then_some(text)
}

/// Refuses a head with a binding note that this hfl does not know: it would sign a new head that omits required
/// contents.
fn refuse_binding(head: &Head) -> Result<(), Error> {
    let Some(note) = head.binding_note() else { return Ok(()) };
    Err(newer_publisher(&head.image, note))
}

/// The error for a head that only a newer hfl may replace.
pub fn newer_publisher(image: &Name, note: &Note) -> Error {
    let message = format!("{image}: its head has the note `{note}`, which this hfl does not know; nothing was changed");
    Error::local(message).hint("update hfl: a newer one publishes this image")
}

/// The result for the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A new version was published.
    Published,
    /// The newest version already has these contents.
    NoChange,
    /// Dry run: nothing was written.
    DryRun,
}
