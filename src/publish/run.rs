//! `publish`: the steps, in the order that keeps every mirror usable at every instant.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use super::base::{self, Base};
use super::client::{self, Client};
use super::cut::{self, CutImage};
use super::error::{Error, ErrorKind};
use super::image::Image;
use super::keyring::{FoundKey, Keyring};
use super::mirror::{self, OpenMirror};
use super::pages;
use super::progress::{Event, Progress};
use super::release::{Object, Release};
use super::report::{MirrorReport, Outcome, Report};
use super::spool::{Spool, Spooled};
use super::upload::{Job, Sent, Uploader};
use crate::block::LEVEL_DEFAULT;
use crate::digest::Sha256;
use crate::head::{FileRow, Head, Seal, SealedHead, Trust, VersionRow};
use crate::index::{FILE_MAX_BYTES, Header, Index};
use crate::keys::SIGNATURE_MAX_BYTES;
use crate::layout::RepoPath;
use crate::mirrors::Mirrors;
use crate::name::{Label, Name, Version};
use crate::split::{Choice, Rule};
use crate::store::Store;
use crate::time::Timestamp;

/// What is to be published, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The image's file, `-` for standard input.
    pub image: PathBuf,
    /// The image's name in the repository.
    pub name: Name,
    /// Where it goes.
    pub mirrors: Mirrors,
    /// What relative paths in it are relative to.
    pub relative_to: PathBuf,
    /// How it is cut.
    pub split: Choice,
    /// How hard its blocks are compressed.
    pub level: Option<u8>,
    /// What is said of this version.
    pub label: Option<Label>,
    /// Where its key is; `None` publishes unsigned.
    pub keyring: Option<Keyring>,
    /// How many days its head stays fresh.
    pub expires_days: Option<u32>,
    /// Cores to use.
    pub jobs: usize,
    /// Only says what would be done.
    pub dry_run: bool,
    /// Makes a new version even where nothing has changed.
    pub force: bool,
    /// How many mirrors must have everything before any head is switched.
    pub min_mirrors: usize,
    /// Where new blocks wait for slow mirrors.
    pub spool_directory: PathBuf,
    /// How many bytes of them may wait on disk.
    pub spool_max_bytes: u64,
}

/// Publishes an image.
///
/// # Errors
/// See [`ErrorKind`]; a mirror that fails is not an error but a line of the report, as long as one is left.
pub async fn publish(options: Options, progress: Arc<dyn Progress>, cancel: Arc<AtomicBool>) -> Result<Report, Error> {
    let started = Instant::now();
    let image = Image::open(&options.image)?;
    let mut mirrors = mirror::open_all(&options.mirrors, &options.relative_to)?;
    if !options.dry_run {
        mirror::lock_all(&mut mirrors).await?;
    }
    let mut session = Session::open(options, mirrors, progress, cancel).await?;
    let (image, cut, uploads) = session.cut(image).await?;
    drop(image);
    let plan = session.plan(cut)?;
    let mut report = session.report(&plan, started);
    if session.options.dry_run {
        session.preview(&plan, &mut report).await;
        return Ok(report);
    }
    let sent = session.send(&plan, uploads).await;
    session.release(&plan).await?;
    session.finish_report(&mut report, &sent, started);
    mirror::unlock_all(&mut session.mirrors);
    session.all_failed().map_or(Ok(report), Err)
}

/// A publish in progress.
struct Session {
    options: Options,
    mirrors: Vec<OpenMirror>,
    base: Base,
    key: Option<FoundKey>,
    new_key_file: Option<PathBuf>,
    clients: Vec<Client>,
    now: Timestamp,
    progress: Arc<dyn Progress>,
    cancel: Arc<AtomicBool>,
}

/// What the new state of the repository is.
struct Plan {
    outcome: Outcome,
    cut: CutImage,
    rule: Rule,
    index_bytes: u64,
    head: Head,
    release: Release,
    /// Whether the heads must be replaced at all.
    switch: bool,
}

impl Session {
    async fn open(
        options: Options,
        mut mirrors: Vec<OpenMirror>,
        progress: Arc<dyn Progress>,
        cancel: Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        progress.event(Event::Step("reading the mirrors"));
        let key = options.keyring.as_ref().map(|keyring| keyring.find(&options.name)).transpose()?;
        if let Some(warning) = key.as_ref().and_then(|k| k.warning.as_deref()) {
            progress.event(Event::Warning(warning));
        }
        let trust = key.as_ref().map_or(Trust::Anyone, |k| Trust::Key(k.key.public().clone()));
        mirror::read_heads(&mut mirrors, &options.name, &trust).await?;
        if trust == Trust::Anyone && mirrors.iter().any(|m| m.head.as_ref().is_some_and(|f| f.signed)) {
            let message = format!("{} is signed on these mirrors; it cannot go on unsigned", options.name);
            return Err(Error::new(ErrorKind::Unverified, message).hint("give its key with --key or HFL_KEY"));
        }
        let mut keys = options.keyring.as_ref().map(Keyring::public_keys).unwrap_or_default();
        keys.extend(key.as_ref().map(|k| k.key.public().clone()));
        let base = base::find(&mirrors, &options.name, &keys, &*progress).await?;
        let named: Vec<PathBuf> = options.mirrors.publish.client.iter().map(|c| options.relative_to.join(c)).collect();
        let clients = client::find(&named, key.as_ref().map(|k| &k.key))?;
        let mut session = Self {
            options,
            mirrors,
            base,
            key,
            new_key_file: None,
            clients,
            now: Timestamp::from_system(SystemTime::now()),
            progress,
            cancel,
        };
        session.save_key()?;
        match session.all_failed() {
            Some(error) => Err(error),
            None => Ok(session),
        }
    }

    /// Keeps a new key before anything that it signs can exist.
    fn save_key(&mut self) -> Result<(), Error> {
        if self.options.dry_run {
            return Ok(());
        }
        if let (Some(keyring), Some(key)) = (&self.options.keyring, &self.key) {
            self.new_key_file = keyring.save(key, &self.options.name)?;
        }
        Ok(())
    }

    /// The reason why no mirror is left, if none is.
    fn all_failed(&self) -> Option<Error> {
        if self.mirrors.iter().any(OpenMirror::is_up) {
            return None;
        }
        let failures: Vec<_> = self.mirrors.iter().filter_map(|m| m.failed.as_ref().map(|f| (m.name(), f))).collect();
        let kind = failures.first().map_or(ErrorKind::Unreachable, |(_, f)| f.kind);
        let same_kind = failures.iter().all(|(_, f)| f.kind == kind);
        let text: Vec<String> = failures.iter().map(|(name, f)| format!("mirror {name}: {}", f.why)).collect();
        Some(Error::new(if same_kind { kind } else { ErrorKind::Unreachable }, text.join("; ")))
    }

    fn start_uploads(&self) -> Vec<Option<Uploader>> {
        let start = |mirror: &OpenMirror| {
            let (name, store) = (mirror.name().to_owned(), Arc::clone(&mirror.store));
            Uploader::start(name, store, mirror.config.jobs, Arc::clone(&self.progress))
        };
        let wanted = |mirror: &OpenMirror| mirror.is_up() && !self.options.dry_run;
        self.mirrors.iter().map(|m| wanted(m).then(|| start(m))).collect()
    }

    /// The one pass over the image; new blocks are on their way to the mirrors while it goes on.
    async fn cut(&mut self, image: Image) -> Result<(Image, (CutImage, Rule), Vec<Option<Uploader>>), Error> {
        let rule = match self.options.split {
            Choice::Content => image.choose_rule(),
            Choice::Rule(rule) => rule,
        };
        self.progress.event(Event::Step("reading the image"));
        self.progress.event(Event::Start { image_bytes: image.size() });
        let uploads = Arc::new(self.start_uploads());
        let known = Arc::new(std::mem::take(&mut self.base.known));
        let spool = Spool::new(self.options.spool_directory.clone(), self.options.spool_max_bytes);
        let (progress, cancel) = (Arc::clone(&self.progress), Arc::clone(&self.cancel));
        let (level, jobs) = (self.options.level.unwrap_or(LEVEL_DEFAULT), self.options.jobs);
        let shared = (Arc::clone(&known), Arc::clone(&uploads));
        let pass = tokio::task::spawn_blocking(move || {
            let (known, uploads) = shared;
            let deliver = |spooled: Spooled| {
                let spooled = Arc::new(spooled);
                uploads.iter().flatten().for_each(|u| u.send(Job::New(Arc::clone(&spooled))));
            };
            let options =
                cut::Options { rule, level, jobs, known: &known, spool: &spool, cancel: &cancel, progress: &*progress };
            let cut = cut::cut(&image, &options, &deliver);
            cut.map(|cut| (image, cut))
        });
        let (image, cut) = pass.await.map_err(|e| Error::local(format!("the pass over the image failed: {e}")))??;
        self.base.known = Arc::try_unwrap(known).unwrap_or_default();
        let uploads = Arc::try_unwrap(uploads).map_err(|_| Error::local("the uploads are still shared"))?;
        Ok((image, (cut, rule), uploads))
    }

    /// What the repository is to be after this; pure but for the signing.
    fn plan(&self, (cut, rule): (CutImage, Rule)) -> Result<Plan, Error> {
        let previous = self.base.head.as_ref().map(Head::newest);
        let version = match previous {
            None => Version::FIRST,
            Some(row) => row.version.next().ok_or_else(|| Error::local("the version numbers have run out"))?,
        };
        let created = previous.map_or(self.now, |row| self.now.max(row.created));
        let header = Header {
            image: self.options.name.clone(),
            version,
            created,
            size: cut.size,
            split: rule,
            parent: previous.map(|row| row.index_sha256),
        };
        let index = Index::new(header, cut.blocks.clone(), cut.extents.clone());
        let index = index.map_err(|e| Error::local(format!("the image cannot be published: {e}")))?;
        let unchanged = !self.options.force && self.base.newest().is_some_and(|newest| newest.same_content(&index));
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
            label: self.options.label.clone(),
        };
        let path = row.index_path(&self.options.name);
        let mut objects = self.index_objects(&row, &path, &file)?;
        let head = self.head(Some(row));
        let mut indexes = vec![Arc::new(index)];
        indexes.extend(self.base.indexes.iter().map(|(_, index)| Arc::clone(index)));
        objects.splice(0..0, self.client_objects());
        let index_bytes = file.len() as u64;
        self.finish_plan(Plan {
            outcome: Outcome::Published,
            cut,
            rule,
            index_bytes,
            release: Release { image: self.options.name.clone(), indexes, objects, head: Bytes::new() },
            head,
            switch: true,
        })
    }

    /// The newest version stays; the head is made anew only where something else in it has changed.
    fn plan_unchanged(&self, cut: CutImage, rule: Rule) -> Result<Plan, Error> {
        let Some(old) = &self.base.head else { return Err(Error::local("there is no version to keep")) };
        let head = self.head(None);
        let same = |a: &Head, b: &Head| a.mirrors == b.mirrors && a.files == b.files;
        let switch = !same(&head, old) || self.options.expires_days.is_some();
        self.finish_plan(Plan {
            outcome: Outcome::NoChange,
            cut,
            rule,
            index_bytes: old.newest().index_bytes,
            release: Release {
                image: self.options.name.clone(),
                indexes: self.base.indexes.iter().map(|(_, index)| Arc::clone(index)).collect(),
                objects: self.client_objects(),
                head: Bytes::new(),
            },
            head: if switch { head } else { old.clone() },
            switch,
        })
    }

    /// Seals the head, unless the one that stands is to stay to the letter.
    fn finish_plan(&self, mut plan: Plan) -> Result<Plan, Error> {
        if self.options.dry_run {
            plan.outcome = Outcome::DryRun;
        }
        if !plan.switch {
            let newest = self.mirrors.iter().filter_map(|m| m.head.as_ref());
            let standing = newest.filter(|f| f.head == plan.head).map(|f| f.file.clone()).next();
            plan.release.head = standing.ok_or_else(|| Error::local("the standing head is gone"))?;
            return Ok(plan);
        }
        let seal = match &self.key {
            None => Seal::Unsigned,
            Some(found) => {
                let signed = found.key.sign(&plan.head.body(), &plan.head.trusted_comment());
                Seal::Signed(signed.map_err(|e| Error::local(e.to_string()))?)
            }
        };
        let sealed = SealedHead::new(plan.head.clone(), seal).map_err(|e| Error::local(e.to_string()))?;
        plan.release.head = sealed.to_bytes().into();
        Ok(plan)
    }

    fn head(&self, row: Option<VersionRow>) -> Head {
        let old = self.base.head.as_ref();
        let created = old.map_or(self.now, |head| head.created.max(self.now));
        let mut versions: Vec<VersionRow> = row.into_iter().collect();
        versions.extend(self.base.indexes.iter().map(|(row, _)| row.clone()));
        let mut mirrors: Vec<_> = self.options.mirrors.mirrors.iter().filter_map(|m| m.read.clone()).collect();
        mirrors.dedup();
        let mut head = Head {
            image: self.options.name.clone(),
            created,
            expires: self.options.expires_days.map(|days| created.plus_days(days)),
            mirrors,
            files: self.files(),
            versions,
        };
        head.drop_oldest_beyond_limit();
        head
    }

    /// The files of the head before, and the clients of this run.
    fn files(&self) -> Vec<FileRow> {
        let mut files: Vec<FileRow> = self.base.head.iter().flat_map(|head| head.files.clone()).collect();
        for client in &self.clients {
            let program = &client.program;
            if !files.iter().any(|f| f.path == program.path) {
                let (bytes, sha256) = (program.bytes.len() as u64, Sha256::of(&program.bytes));
                files.push(FileRow { path: program.path.clone(), bytes, sha256 });
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }

    /// The clients that are not published yet under their name and version: those that are stay as they are.
    fn client_objects(&self) -> Vec<Object> {
        let published = |path: &RepoPath| self.base.head.iter().flat_map(|h| &h.files).any(|f| f.path == *path);
        let new = self.clients.iter().filter(|c| !published(&c.program.path));
        new.flat_map(|c| std::iter::once(c.program.clone()).chain(c.signature.clone())).collect()
    }

    fn index_objects(&self, row: &VersionRow, path: &RepoPath, file: &Bytes) -> Result<Vec<Object>, Error> {
        let mut objects = Vec::new();
        if let Some(found) = &self.key {
            let comment = format!("hfl index {} {} {}", self.options.name, row.version, row.index_sha256);
            let signature = found.key.sign(file, &comment).map_err(|e| Error::local(e.to_string()))?;
            objects.push(Object { path: path.signature(), bytes: signature.text().to_owned().into() });
        }
        objects.push(Object { path: path.clone(), bytes: file.clone() });
        Ok(objects)
    }

    /// The blocks of the plan's versions that a mirror does not hold and that were not made just now.
    fn missing(&self, plan: &Plan, mirror: usize) -> Vec<Job> {
        let mut jobs = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for row in plan.release.indexes.iter().flat_map(|index| index.blocks()) {
            let Some(known) = self.base.known.get(&row.id) else { continue };
            if known.holders.contains(mirror) || !seen.insert(row.id) {
                continue;
            }
            let holders: Vec<Arc<dyn Store>> =
                known.holders.iter().map(|holder| Arc::clone(&self.mirrors[holder].store)).collect();
            jobs.push(Job::Copy(known.row, holders.into()));
        }
        jobs
    }

    /// Sends what each mirror lacks; a mirror that fails is noted as such.
    async fn send(&mut self, plan: &Plan, uploads: Vec<Option<Uploader>>) -> Vec<Sent> {
        self.progress.event(Event::Step("sending to the mirrors"));
        for (i, upload) in uploads.iter().enumerate() {
            if let Some(upload) = upload {
                self.missing(plan, i).into_iter().for_each(|job| upload.send(job));
            }
        }
        let mut all = Vec::new();
        for (i, upload) in uploads.into_iter().enumerate() {
            let mut sent = Sent::default();
            if let Some(upload) = upload {
                match upload.finish().await {
                    Ok(done) => sent = done,
                    Err(e) => self.mirrors[i].fail(e),
                }
            }
            all.push(sent);
        }
        all
    }

    /// Prepares every mirror, and switches the heads once all have got so far.
    async fn release(&mut self, plan: &Plan) -> Result<(), Error> {
        self.progress.event(Event::Step("checking the mirrors"));
        let pages = self.render_pages(plan).await?;
        for i in 0..self.mirrors.len() {
            if self.mirrors[i].is_up() && self.needs_release(plan, i) {
                if let Err(e) = self.prepare(plan, i).await {
                    self.mirrors[i].fail(e);
                }
            }
        }
        let ready = self.mirrors.iter().filter(|m| m.is_up()).count();
        if ready < self.options.min_mirrors.max(1) {
            return match self.all_failed() {
                Some(error) => Err(error),
                None => {
                    let message = format!("only {ready} mirrors are ready, {} are needed", self.options.min_mirrors);
                    Err(Error::new(ErrorKind::Unreachable, message).hint("nothing was switched; run it again"))
                }
            };
        }
        if self.cancel.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Error::interrupted());
        }
        self.progress.event(Event::Step("switching the heads"));
        for i in 0..self.mirrors.len() {
            if self.mirrors[i].is_up() && self.needs_release(plan, i) {
                let switched = self.switch(plan, &pages, i).await;
                if let Err(e) = switched {
                    self.mirrors[i].fail(e);
                }
            }
        }
        Ok(())
    }

    /// Whether a mirror has another head than the plan's.
    fn needs_release(&self, plan: &Plan, mirror: usize) -> bool {
        self.mirrors[mirror].head.as_ref().is_none_or(|found| found.file != plan.release.head)
    }

    async fn prepare(&self, plan: &Plan, mirror: usize) -> Result<(), Error> {
        self.copy_objects(plan, mirror).await?;
        plan.release.prepare(&self.mirrors[mirror]).await
    }

    async fn switch(&self, plan: &Plan, pages: &[Object], mirror: usize) -> Result<(), Error> {
        let mirror = &self.mirrors[mirror];
        plan.release.switch(mirror).await?;
        for page in pages {
            mirror.store.put_replace(&page.path, page.bytes.clone()).await?;
        }
        Ok(())
    }

    /// Copies the older indexes and files that the head names and this mirror lacks.
    async fn copy_objects(&self, plan: &Plan, mirror: usize) -> Result<(), Error> {
        let target = &self.mirrors[mirror];
        let has = |head: &Head| {
            target.head.as_ref().is_some_and(|f| f.head.versions == head.versions && f.head.files == head.files)
        };
        if self.base.head.as_ref().is_none_or(|head| has(head)) {
            return Ok(());
        }
        let sources: Vec<&dyn Store> =
            self.mirrors.iter().filter(|m| m.head.is_some() && m.is_up()).map(|m| &*m.store).collect();
        for (path, bytes, sha256) in older_files(&self.base) {
            copy_checked(&*target.store, &sources, &path, bytes, Some(sha256)).await?;
            if self.key.is_some() {
                copy_checked(&*target.store, &sources, &path.signature(), SIGNATURE_MAX_BYTES as u64, None).await?;
            }
        }
        let _ = plan;
        Ok(())
    }

    async fn render_pages(&self, plan: &Plan) -> Result<Vec<Object>, Error> {
        let mut names = std::collections::BTreeSet::from([self.options.name.clone()]);
        for mirror in self.mirrors.iter().filter(|m| m.is_up()) {
            names.extend(base::images(mirror).await.unwrap_or_default());
        }
        let names: Vec<Name> = names.into_iter().collect();
        let templates = self.options.mirrors.publish.templates.as_ref().map(|t| self.options.relative_to.join(t));
        pages::render(templates.as_ref(), &plan.head, self.key.as_ref().map(|k| k.key.public()), &names)
    }

    fn report(&self, plan: &Plan, started: Instant) -> Report {
        let cut = &plan.cut;
        let seconds = started.elapsed().as_secs_f64();
        Report {
            image: self.options.name.to_string(),
            version: plan.head.newest().version.number(),
            previous: self.base.head.as_ref().map(|h| h.newest().version.number()),
            outcome: plan.outcome,
            size: cut.size,
            split: plan.rule.to_string(),
            new: cut.new.into(),
            reused: cut.known.into(),
            hole_bytes: cut.hole_bytes,
            repeated_bytes: cut.repeated_bytes,
            index_bytes: plan.index_bytes,
            seconds,
            bytes_per_second: cut.size as f64 / seconds,
            public_key: self.key.as_ref().map(|k| k.key.public().to_string()),
            new_key_file: self.new_key_file.as_ref().map(|f| f.display().to_string()),
            mirrors: Vec::new(),
        }
    }

    fn mirror_report(&self, mirror: &OpenMirror, sent: Sent) -> MirrorReport {
        MirrorReport {
            name: mirror.name().to_owned(),
            write: mirror.config.write.to_string(),
            current: mirror.is_up(),
            why: mirror.failed.as_ref().map(|f| f.why.clone()),
            objects: sent.objects,
            bytes: sent.bytes,
            found: sent.found,
            repaired: sent.repaired,
        }
    }

    fn finish_report(&self, report: &mut Report, sent: &[Sent], started: Instant) {
        report.seconds = started.elapsed().as_secs_f64();
        report.bytes_per_second = report.size as f64 / report.seconds;
        report.mirrors = self.mirrors.iter().zip(sent).map(|(m, s)| self.mirror_report(m, *s)).collect();
    }

    /// What each mirror would be sent.
    async fn preview(&self, plan: &Plan, report: &mut Report) {
        let fresh = Sent { objects: plan.cut.new.blocks, bytes: plan.cut.new.zlib_bytes, ..Sent::default() };
        for (i, mirror) in self.mirrors.iter().enumerate() {
            let mut sent = fresh;
            for job in self.missing(plan, i) {
                if let Job::Copy(row, _) = job {
                    sent.objects += 1;
                    sent.bytes += u64::from(row.zlib_bytes);
                }
            }
            report.mirrors.push(self.mirror_report(mirror, sent));
        }
    }
}

/// The indexes and other files that the base's head names: path, bytes, digest.
fn older_files(base: &Base) -> Vec<(RepoPath, u64, Sha256)> {
    let Some(head) = &base.head else { return Vec::new() };
    let indexes = base.indexes.iter().map(|(row, _)| (row.index_path(&head.image), row.index_bytes, row.index_sha256));
    indexes.chain(head.files.iter().map(|f| (f.path.clone(), f.bytes, f.sha256))).collect()
}

/// Copies one object from the first source that has it right; a signature only counts by what it signs.
async fn copy_checked(
    target: &dyn Store,
    sources: &[&dyn Store],
    path: &RepoPath,
    max_bytes: u64,
    sha256: Option<Sha256>,
) -> Result<(), Error> {
    let right = |bytes: &Bytes| sha256.is_none_or(|digest| Sha256::of(bytes) == digest);
    if target.get(path, max_bytes).await.is_ok_and(|bytes| right(&bytes)) {
        return Ok(());
    }
    for source in sources {
        match source.get(path, max_bytes).await {
            Ok(bytes) if right(&bytes) => return Ok(target.put_replace(path, bytes).await?),
            _ => {}
        }
    }
    Err(Error::new(ErrorKind::Unverified, format!("no mirror has a good copy of {path}")))
}
