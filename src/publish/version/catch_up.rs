//! Brings a mirror that is new or behind up to date with objects from the other mirrors.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::plan::Extras;
use super::planned::Planned;
use crate::error::{Error, ErrorKind};
use crate::format::comment;
use crate::format::digest::{BlockId, Sha256};
use crate::format::head::{FileRow, Head, Trust, VersionRow};
use crate::format::index::Index;
use crate::format::layout::RepoPath;
use crate::format::signature::{SIGNATURE_MAX_BYTES, Signature};
use crate::progress::Event;
use crate::publish::base;
use crate::publish::base::block_holders::MirrorSet;
use crate::publish::base::source_order::SourceOrder;
use crate::publish::object::{Files, Object};
use crate::publish::pipeline::upload::Job;
use crate::publish::repository::mirror::OpenMirror;
use crate::publish::repository::options::Check;
use crate::repo::survey::records::{self, FoundRecord, RecordState};
use crate::store::{Fetch, Put, Store};

/// An index or other file that a mirror may need, with its signature where it has one.
pub struct OlderFile {
    path: RepoPath,
    /// Size in bytes.
    pub bytes: u64,
    sha256: Sha256,
    comment: String,
    /// Whether the mirror's own head already names it.
    is_named: bool,
}

impl Planned<'_> {
    /// The blocks that a mirror lacks and another mirror has.
    ///
    /// # Errors
    /// No mirror has a good index of a version that this mirror is to receive.
    pub async fn missing(&self, mirror: usize) -> Result<Vec<Job>, Error> {
        let mut gap = Gap { mirror, seen: HashSet::new(), jobs: Vec::new() };
        for row in self.plan.release.newest.blocks() {
            let Some(known) = self.session.base.known.get(&row.id) else { continue };
            if gap.is_new(&row.id) && !known.holders.contains(mirror) && !self.plan.cut.remade.contains(&row.id) {
                gap.jobs.push(Job::Copy(known.row, self.stores(known.holders)));
            }
        }
        for row in self.rows_to_walk(mirror) {
            let (index, holders) = base::index_of(self.session.mirrors(), &self.session.name, row).await?;
            self.add_old(&mut gap, &index, holders);
        }
        Ok(gap.jobs)
    }

    fn add_old(&self, gap: &mut Gap, index: &Index, holders: MirrorSet) {
        let is_listed = self.session.repository.config.check == Check::List;
        for row in index.blocks() {
            if !gap.is_new(&row.id) || self.plan.cut.remade.contains(&row.id) {
                continue;
            }
            let known = self.session.base.known.get(&row.id);
            let has_it = known.is_some_and(|known| known.holders.contains(gap.mirror));
            if !has_it && (is_listed || !holders.contains(gap.mirror)) {
                let holders = known.map_or(holders, |known| known.holders).without(gap.mirror);
                gap.jobs.push(Job::Copy(*row, self.stores(holders)));
            }
        }
    }

    /// The older versions whose blocks the mirror's own head does not vouch for; all older versions with
    /// [`Check::List`], which relies on listings alone.
    fn rows_to_walk(&self, mirror: usize) -> impl Iterator<Item = &VersionRow> {
        let newest = self.plan.release.newest.header().version;
        let is_listed = self.session.repository.config.check == Check::List;
        let own = self.session.mirrors()[mirror].head.as_ref();
        let vouches = move |row: &VersionRow| {
            own.and_then(|own| own.head.version(row.version)).is_some_and(|o| o.index_sha256 == row.index_sha256)
        };
        let older = self.plan.head.versions.iter().filter(move |row| row.version != newest);
        older.filter(move |row| is_listed || !vouches(row))
    }

    fn stores(&self, mirrors: MirrorSet) -> Arc<[Arc<dyn Store>]> {
        mirrors.iter().map(|holder| Arc::clone(&self.session.mirrors()[holder].store)).collect()
    }

    /// The older indexes and files that the plan's head names and the mirror's own head does not. If the mirror is
    /// damaged, those that both name are included.
    pub fn older_files(&self, mirror: usize) -> Vec<OlderFile> {
        let Some(head) = &self.session.base.head else { return Vec::new() };
        let is_damaged = self.session.base.damaged.contains(mirror);
        let own = self.session.mirrors()[mirror].head.as_ref().map(|own| &own.head);
        let names_row = |row: &VersionRow| own.is_some_and(|own| own.version(row.version) == Some(row));
        let names_file = |file: &FileRow| own.is_some_and(|own| own.files.contains(file));
        let indexes = head.versions.iter().filter(|row| self.plan.head.version(row.version) == Some(row));
        let indexes = indexes.map(|row| OlderFile {
            path: row.index_path(&head.image),
            bytes: row.index_bytes,
            sha256: row.index_sha256,
            comment: comment::index(&head.image, row.version, &row.index_sha256),
            is_named: names_row(row),
        });
        let files = head.files.iter().filter(|file| self.plan.head.files.contains(file)).map(|file| OlderFile {
            path: file.path.clone(),
            bytes: file.bytes,
            sha256: file.sha256,
            comment: comment::file(&file.path),
            is_named: names_file(file),
        });
        indexes.chain(files).filter(|file| is_damaged || !file.is_named).collect()
    }

    /// Copies the older files that a mirror lacks to it.
    ///
    /// # Errors
    /// No mirror has a good copy of an object.
    pub async fn copy_files(&self, mirror: usize) -> Result<Files, Error> {
        let target = &self.session.mirrors()[mirror];
        let mut sources: Vec<&OpenMirror> = self.session.mirrors().iter().filter(|m| m.is_up()).collect();
        // A mirror without a head may still have these files.
        sources.sort_by_key(|m| (m.head.is_none(), std::ptr::eq(*m, target)));
        let sources: Vec<&dyn Store> = sources.into_iter().map(|m| &*m.store).collect();
        let (is_new, unreliable) = (target.head.is_none(), SourceOrder::default());
        let copies = self.older_files(mirror).into_iter().map(|file| {
            let (sources, unreliable) = (&sources, &unreliable);
            async move {
                self.copy(&*target.store, &unreliable.order(sources.iter().copied()), unreliable, &file, is_new).await
            }
        });
        let copies = stream::iter(copies).buffer_unordered(target.jobs());
        copies
            .try_fold(Files::default(), |mut sum, files| async move {
                sum.merge(files);
                Ok(sum)
            })
            .await
    }

    /// Copies one file and its signature from the first source with good copies of both; returns what was written. If
    /// no source has a good signature, the file is signed again where the key is available: the signed head names the
    /// file.
    async fn copy(
        &self,
        target: &dyn Store,
        sources: &[&dyn Store],
        unreliable: &SourceOrder,
        file: &OlderFile,
        is_new: bool,
    ) -> Result<Files, Error> {
        if !is_new && self.has_right(target, file).await {
            return Ok(Files::default());
        }
        let mut unsigned = None;
        for source in sources {
            let Some(bytes) = right_bytes(*source, file).await else {
                unreliable.note(*source);
                continue;
            };
            match self.right_signature(*source, file, &bytes).await {
                Some(signature) => return put_both(target, file, bytes, signature).await,
                None => unsigned = Some(bytes),
            }
        }
        let why = match (unsigned, &self.session.signer.key) {
            (Some(bytes), Some(found)) => {
                let signature = Object::new(file.path.clone(), bytes.clone()).signature(&found.key, &file.comment)?;
                return put_both(target, file, bytes, Some(signature.bytes)).await;
            }
            (Some(_), None) => format!("no mirror has a good signature of {}", file.path),
            (None, _) => format!("no mirror has a good copy of {}", file.path),
        };
        if file.is_named {
            // The mirror's head already named it, so nothing gets worse.
            self.session.repository.watch.progress.event(Event::Warning(&format!("{}: {why}", target.location())));
            return Ok(Files::default());
        }
        let hint = match file.path.is_optional() {
            true => "with the secret key in HFL_KEY, hfl sync stops offering it",
            false => "restore it from a copy of the repository, or retire its version with hfl gc --retire",
        };
        Err(Error::new(ErrorKind::Unverified, why).hint(hint))
    }

    async fn has_right(&self, store: &dyn Store, file: &OlderFile) -> bool {
        match right_bytes(store, file).await {
            Some(bytes) => self.right_signature(store, file, &bytes).await.is_some(),
            None => false,
        }
    }

    /// The signature of a file if this store has a good one; `Some(None)` if the file has no signature.
    async fn right_signature(&self, store: &dyn Fetch, file: &OlderFile, bytes: &[u8]) -> Option<Option<Bytes>> {
        if !self.session.signer.is_signed() || file.path.is_client() {
            // The signatures of a client are files of their own, named by the head.
            return Some(None);
        }
        let signature = store.get(&file.path.signature(), SIGNATURE_MAX_BYTES as u64).await.ok()?;
        self.signs(&signature, bytes, file).then_some(Some(signature))
    }

    /// Whether this is a signature of the file by the image's key.
    fn signs(&self, text: &[u8], bytes: &[u8], file: &OlderFile) -> bool {
        match (&self.session.signer.trust, Signature::of_file(text)) {
            (Trust::Key(key), Some(signature)) => key.verify(bytes, &signature, &file.comment).is_ok(),
            _ => false,
        }
    }

    /// Records of the versions that a mirror's own head names and the plan's head does not: after the switch, nothing
    /// else would name their files. They are marked as retired now, since clients of this mirror saw those versions
    /// until now. Without a key, the record from another mirror is copied.
    ///
    /// # Errors
    /// A version has no record, and there is no key to sign one.
    pub async fn records_of_dropped(&self, mirror: usize) -> Result<Vec<Object>, Error> {
        let Some(own) = self.session.mirrors()[mirror].head.as_ref() else { return Ok(Vec::new()) };
        let mut records = Vec::new();
        for row in own.head.versions.iter().filter(|row| !is_named(&self.plan.head, row)) {
            let path = RepoPath::retirement(&self.session.name, row.version, &row.index_sha256);
            if self.plan.release.objects.iter().any(|object| object.path == path) {
                continue;
            }
            records.push(match self.session.signer.can_sign() {
                true => self.new_record(&own.head, row)?,
                false => Object::new(path.clone(), self.found_record(&path).await.ok_or_else(|| self.unrecorded(row))?),
            });
        }
        Ok(records)
    }

    /// The record at `path` with the latest retirement time on any mirror.
    async fn found_record(&self, path: &RepoPath) -> Option<Bytes> {
        let mut latest: Option<FoundRecord> = None;
        for mirror in self.session.mirrors().iter().filter(|m| m.is_up()) {
            let found = records::read_one(&*mirror.store, path, &self.session.repository.policy).await;
            let Some(RecordState::Verified(found)) = found else { continue };
            if latest.as_ref().is_none_or(|old| old.retirement.marked < found.retirement.marked) {
                latest = Some(*found);
            }
        }
        latest.map(|found| found.file)
    }

    fn unrecorded(&self, row: &VersionRow) -> Error {
        let message =
            format!("version {} of {} was retired, and no record of it is left", row.version, self.session.name);
        Error::usage(message).hint("give its secret key with --key FILE or HFL_KEY")
    }

    fn new_record(&self, own: &Head, row: &VersionRow) -> Result<Object, Error> {
        let files =
            own.files.iter().filter(|file| file.path.belongs_to(&self.session.name, row.version)).cloned().collect();
        let marked = self.session.now.max(self.plan.head.created);
        let made = self.session.planner(None, false, &Extras::default()).records(marked, &[(row.clone(), files)])?;
        made.into_iter().next().ok_or_else(|| Error::local("no record was made"))
    }
}

/// The file, if this store has a good copy.
async fn right_bytes(store: &dyn Fetch, file: &OlderFile) -> Option<Bytes> {
    store.get(&file.path, file.bytes).await.ok().filter(|bytes| Sha256::of(bytes) == file.sha256)
}

/// Writes a file to a mirror, its signature first; returns what was written.
async fn put_both(
    target: &dyn Store,
    file: &OlderFile,
    bytes: Bytes,
    signature: Option<Bytes>,
) -> Result<Files, Error> {
    let mut files = Files::default();
    for (path, bytes) in signature.map(|s| (file.path.signature(), s)).into_iter().chain([(file.path.clone(), bytes)]) {
        if put(target, &path, bytes.clone()).await? {
            files.add(bytes.len() as u64);
        }
    }
    Ok(files)
}

fn is_named(head: &Head, row: &VersionRow) -> bool {
    head.version(row.version).is_some_and(|named| named.index_sha256 == row.index_sha256)
}

/// The blocks that one mirror lacks.
struct Gap {
    mirror: usize,
    seen: HashSet<BlockId>,
    jobs: Vec<Job>,
}

impl Gap {
    fn is_new(&mut self, id: &BlockId) -> bool {
        self.seen.insert(*id)
    }
}

/// Writes an object, replacing a different one; returns false if it was there already.
async fn put(target: &dyn Store, path: &RepoPath, bytes: Bytes) -> Result<bool, Error> {
    if target.put_new(path, bytes.clone()).await? == Put::Created {
        return Ok(true);
    }
    if target.get(path, bytes.len() as u64).await.is_ok_and(|found| found == bytes) {
        return Ok(false);
    }
    target.put_replace(path, bytes).await?;
    Ok(true)
}
