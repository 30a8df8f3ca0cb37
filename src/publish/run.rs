//! `publish`: the steps, in the order that keeps every mirror usable at every instant.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use futures_util::future::join_all;

use super::base::{self, Base};
use super::catch_up;
use super::client::{self, Client};
use super::cut::{self, CutImage};
use super::error::{Error, ErrorKind};
use super::image::Image;
use super::keyring::{FoundKey, Keyring};
use super::mirror::{self, OpenMirror};
use super::options::Options;
use super::pages;
use super::plan::{Plan, Planner};
use super::progress::{Event, Progress};
use super::release::Object;
use super::report::{MirrorReport, Report};
use super::spool::{Spool, Spooled};
use super::upload::{Job, Sent, Uploader};
use crate::block::LEVEL_DEFAULT;
use crate::head::{Head, Trust};
use crate::name::Name;
use crate::split::{Choice, Rule};
use crate::time::Timestamp;

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
    let (cut, rule, uploads) = session.cut(image).await?;
    let plan = session.planner().plan(cut, rule)?;
    let mut report = session.report(&plan, started);
    if session.options.dry_run {
        report.mirrors = session.preview(&plan);
        return Ok(report);
    }
    let sent = session.send(&plan, uploads).await;
    session.release(&plan).await?;
    report.mirrors = session.mirrors.iter().zip(sent).map(|(m, sent)| MirrorReport::of(m, sent)).collect();
    report.finish(started);
    session.all_failed().map_or(Ok(report), Err)
}

/// The queue of each mirror that takes part, in the order of mirrors.toml.
type Uploads = Vec<Option<Uploader>>;

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
        let mut base = base::find(&mirrors, &options.name, &keys, &*progress).await?;
        for (mirror, why) in base.unusable.drain(..) {
            mirrors[mirror].fail(why);
        }
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
        let error = Error::new(if same_kind { kind } else { ErrorKind::Unreachable }, text.join("; "));
        let advice = failures.iter().find_map(|(_, f)| f.advice.as_deref());
        Some(match advice {
            Some(advice) => error.hint(advice),
            None => error,
        })
    }

    fn start_uploads(&self) -> Uploads {
        let start = |mirror: &OpenMirror| {
            let (name, store) = (mirror.name().to_owned(), Arc::clone(&mirror.store));
            Uploader::start(name, store, mirror.config.jobs, Arc::clone(&self.progress))
        };
        let wanted = |mirror: &OpenMirror| mirror.is_up() && !self.options.dry_run;
        self.mirrors.iter().map(|m| wanted(m).then(|| start(m))).collect()
    }

    /// The one pass over the image; new blocks are on their way to the mirrors while it goes on.
    async fn cut(&mut self, image: Image) -> Result<(CutImage, Rule, Uploads), Error> {
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
            cut::cut(&image, &options, &deliver)
        });
        let cut = pass.await.map_err(|e| Error::local(format!("the pass over the image failed: {e}")))??;
        self.base.known = Arc::try_unwrap(known).unwrap_or_default();
        let uploads = Arc::try_unwrap(uploads).map_err(|_| Error::local("the uploads are still shared"))?;
        Ok((cut, rule, uploads))
    }

    /// Sends what each mirror lacks; a mirror that fails is noted as such.
    async fn send(&mut self, plan: &Plan, uploads: Uploads) -> Vec<Sent> {
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
        let targets = self.to_release(plan);
        let prepared = join_all(targets.iter().map(|&i| self.prepare(plan, i))).await;
        self.note_failures(&targets, prepared);
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
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::interrupted());
        }
        self.progress.event(Event::Step("switching the heads"));
        let targets = self.to_release(plan);
        let switched = join_all(targets.iter().map(|&i| self.switch(plan, &pages, i))).await;
        self.note_failures(&targets, switched);
        Ok(())
    }

    /// The mirrors that take part and have another head than the plan's.
    fn to_release(&self, plan: &Plan) -> Vec<usize> {
        let other = |m: &OpenMirror| m.head.as_ref().is_none_or(|found| found.file != plan.release.head);
        let mirrors = self.mirrors.iter().enumerate();
        mirrors.filter(|(_, m)| m.is_up() && other(m)).map(|(i, _)| i).collect()
    }

    fn note_failures(&mut self, targets: &[usize], outcomes: Vec<Result<(), Error>>) {
        for (&i, outcome) in targets.iter().zip(outcomes) {
            if let Err(e) = outcome {
                self.mirrors[i].fail(e);
            }
        }
    }

    async fn prepare(&self, plan: &Plan, mirror: usize) -> Result<(), Error> {
        catch_up::copy_files(&self.base, &self.mirrors, mirror, self.key.is_some()).await?;
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

    async fn render_pages(&self, plan: &Plan) -> Result<Vec<Object>, Error> {
        let mut names = BTreeSet::from([self.options.name.clone()]);
        for mirror in self.mirrors.iter().filter(|m| m.is_up()) {
            names.extend(base::images(mirror).await.unwrap_or_default());
        }
        let names: Vec<Name> = names.into_iter().collect();
        let templates = self.options.mirrors.publish.templates.as_ref().map(|t| self.options.relative_to.join(t));
        pages::render(templates.as_ref(), &plan.head, self.key.as_ref().map(|k| k.key.public()), &names)
    }

    fn planner(&self) -> Planner<'_> {
        Planner {
            options: &self.options,
            base: &self.base,
            key: self.key.as_ref().map(|found| &found.key),
            clients: &self.clients,
            mirrors: &self.mirrors,
            now: self.now,
        }
    }

    fn missing(&self, plan: &Plan, mirror: usize) -> Vec<Job> {
        catch_up::missing_blocks(&plan.release.indexes, &self.base, &self.mirrors, mirror)
    }

    fn report(&self, plan: &Plan, started: Instant) -> Report {
        let previous = self.base.head.as_ref().map(Head::newest).map(|row| row.version.number());
        let mut report = Report::of(plan, previous, started);
        report.public_key = self.key.as_ref().map(|found| found.key.public().to_string());
        report.new_key_file = self.new_key_file.as_ref().map(|file| file.display().to_string());
        report
    }

    /// What each mirror would be sent.
    fn preview(&self, plan: &Plan) -> Vec<MirrorReport> {
        let fresh = Sent { objects: plan.cut.new.blocks, bytes: plan.cut.new.zlib_bytes, ..Sent::default() };
        let mirrors = self.mirrors.iter().enumerate();
        let preview = mirrors.map(|(i, mirror)| {
            let mut sent = fresh;
            for job in self.missing(plan, i) {
                sent.objects += 1;
                sent.bytes += job.bytes();
            }
            MirrorReport::of(mirror, sent)
        });
        preview.collect()
    }
}
