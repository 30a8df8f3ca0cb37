//! Delivers a plan to the mirrors: each at its own pace up to the barrier, then all heads are switched at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout};

use super::remake::Remake;
use super::upload::{Job, Sent, Stop, Uploader};
use crate::error::{Error, ErrorKind};
use crate::format::block::BlockRow;
use crate::format::layout::RepoPath;
use crate::progress::{Event, cancelled};
use crate::publish::object::{Files, Object};
use crate::publish::repository::mirror::{self, OpenMirror, Presence};
use crate::publish::version::plan::Plan;
use crate::publish::version::report::MirrorReport;
use crate::publish::version::session::{Session, Uploads};
use crate::repo::survey::{HeadState, VerifiedHead, head};
use crate::system::bridge;
use crate::weaken::{self, Weakness};

/// How long running uploads may take to end once the user cancels.
const STOP_WAIT: Duration = Duration::from_secs(3);
/// How long a mirror may take to switch its head once another has: a page for each image is uploaded with it.
const SWITCH_PATIENCE: Duration = Duration::from_secs(120);
/// How many times the blocks of one mirror are rebuilt from the image.
const REMAKES_MAX: usize = 2;
/// First wait for the public URL to return a new head; it doubles up to the maximum, then waiting ends.
const PUBLIC_WAIT: Duration = Duration::from_millis(250);
const PUBLIC_WAIT_MAX: Duration = Duration::from_secs(4);

/// What was uploaded to a mirror before its head is switched.
type Delivered = Result<(Sent, Files), Error>;

impl Session<'_> {
    /// Uploads, checks and switches the heads; returns a report for each mirror.
    pub async fn release(
        &mut self,
        plan: &Plan,
        pages: &[Object],
        uploads: Uploads,
    ) -> Result<Vec<MirrorReport>, Error> {
        self.touch();
        self.repository.watch.progress.event(Event::Step("sending to the mirrors"));
        let mut delivered = self.deliver_all(plan, uploads).await?;
        let (ready, needed) = (self.mirrors().iter().filter(|m| m.is_up()).count(), self.repository.config.min_mirrors);
        if ready < needed.max(1) {
            return Err(self.all_failed().unwrap_or_else(|| too_few(ready, needed)));
        }
        self.repository.watch.progress.event(Event::Step("switching the heads"));
        self.intend(plan)?;
        // A publisher that crashed earlier may have replaced a head but not its pages.
        let to_switch = |i: &usize| self.is_behind(plan, *i) || self.mirrors()[*i].is_unfinished();
        let behind: Vec<usize> =
            (0..self.mirrors().len()).filter(|i| self.mirrors()[*i].is_up() && to_switch(i)).collect();
        let patience = self.repository.patience(SWITCH_PATIENCE);
        let switches = behind.iter().map(|&i| self.switch(plan, pages, i));
        let switched = bridge::in_time(switches, patience, Result::is_ok).await;
        let mut shown = Vec::new();
        for (i, files) in mirror::settle(&mut self.repository.mirrors, behind, switched, patience) {
            if self.is_behind(plan, i) {
                shown.push(i);
            }
            delivered[i].1.merge(files);
            self.show(plan, i);
        }
        // Caches in front of the mirrors refresh at their own pace, so the user's --patience does not apply.
        let looks = shown.iter().map(|&i| self.look_at_public(plan, &self.mirrors()[i]));
        let looked = bridge::in_time(looks, SWITCH_PATIENCE, Result::is_ok).await;
        mirror::settle(&mut self.repository.mirrors, shown, looked, SWITCH_PATIENCE);
        self.settle();
        self.remember(plan);
        let reports = self.mirrors().iter().zip(delivered);
        Ok(reports.map(|(mirror, (sent, files))| MirrorReport::of(mirror, sent, files)).collect())
    }

    /// Records on disk that the head of a new version may reach a mirror from now on.
    fn intend(&self, plan: &Plan) -> Result<(), Error> {
        let row = plan.head.newest();
        let config = &self.repository.config;
        config.memory.intend(&self.name, &self.trust, (row.version, row.index_sha256)).or_else(|e| self.forget(&e))
    }

    /// Records on disk what the mirrors hold now.
    fn remember(&self, plan: &Plan) {
        let (row, config) = (plan.head.newest(), &self.repository.config);
        let current = self.mirrors().iter().filter(|m| m.is_current);
        let places: Vec<String> = current.map(|m| m.place(&config.relative_to)).collect();
        if !places.is_empty() {
            let numbered = (row.version, row.index_sha256);
            let _ = config.memory.publish(&self.name, &self.trust, numbered, &places).or_else(|e| self.forget(&e));
        }
    }

    /// Only warns: with a full or read-only disk publishing still works, and the next run asks the mirrors again.
    fn forget(&self, error: &Error) -> Result<(), Error> {
        let warning = format!("cannot remember what is published: {error}");
        self.repository.watch.progress.event(Event::Warning(&warning));
        Ok(())
    }

    /// Updates the view of a mirror with its new head.
    fn show(&mut self, plan: &Plan, mirror: usize) {
        let key = self.trust.key().cloned();
        let (head, file) = (plan.head.clone(), plan.release.head.clone());
        let head = Arc::new(VerifiedHead { head, file, signed: self.is_signed(), key });
        let view = &mut self.repository.views[mirror];
        view.heads.insert(self.name.clone(), HeadState::Verified(Arc::clone(&head)));
        view.list.names.insert(self.name.clone());
    }

    /// Waits until every mirror is ready or has failed; mirrors that lag too far behind the others fail too.
    async fn deliver_all(&mut self, plan: &Plan, uploads: Uploads) -> Result<Vec<(Sent, Files)>, Error> {
        let config = &self.repository.config;
        let (patience, needed) = (config.patience, config.min_mirrors.max(1));
        let mut outcomes: Vec<Option<Delivered>> = self.mirrors().iter().map(|_| None).collect();
        let mut lagging: BTreeSet<usize> = BTreeSet::new();
        let stoppers: Vec<Stop> = uploads.iter().flatten().map(Uploader::stopper).collect();
        {
            let mut running = FuturesUnordered::new();
            for (i, upload) in uploads.into_iter().enumerate() {
                if let Some(upload) = upload {
                    lagging.insert(i);
                    let this = &*self;
                    running.push(async move { (i, this.deliver(plan, upload, i).await) });
                }
            }
            let (mut ready, mut deadline) = (0, None);
            while !lagging.is_empty() {
                tokio::select! {
                    biased;
                    Some((i, outcome)) = running.next() => {
                        lagging.remove(&i);
                        ready += usize::from(outcome.is_ok());
                        outcomes[i] = Some(outcome);
                        if ready >= needed {
                            deadline.get_or_insert_with(|| Instant::now() + patience);
                        }
                    }
                    () = bridge::until(deadline) => break,
                    () = cancelled(&self.repository.watch.cancel) => {
                        stoppers.iter().for_each(Stop::stop);
                        let ended = running.by_ref().for_each(|_| async {});
                        let _ = timeout(STOP_WAIT, ended).await;
                        return Err(Error::interrupted());
                    }
                }
            }
        }
        for mirror in lagging {
            outcomes[mirror] = Some(Err(mirror::lags(&self.mirrors()[mirror], patience)));
        }
        Ok(self.take_in(outcomes))
    }

    fn take_in(&mut self, outcomes: Vec<Option<Delivered>>) -> Vec<(Sent, Files)> {
        let mirrors = self.repository.mirrors.iter_mut().zip(outcomes);
        let taken = mirrors.map(|(mirror, outcome)| match outcome {
            Some(Ok(done)) => done,
            Some(Err(e)) => {
                mirror.fail(e);
                Default::default()
            }
            None => Default::default(),
        });
        taken.collect()
    }

    /// Uploads everything one mirror must hold before its head may be switched.
    async fn deliver(&self, plan: &Plan, upload: Uploader, mirror: usize) -> Delivered {
        self.missing(plan, mirror).await?.into_iter().for_each(|job| upload.send(job));
        let mut sent = upload.finish().await?;
        let mut files = Files::default();
        if self.is_behind(plan, mirror) || self.base.damaged.contains(mirror) {
            self.mirrors()[mirror].confirm().await?;
            files = self.copy_files(plan, mirror).await?;
            sent.add(self.make_right(plan, mirror).await?);
            let records = self.records_of_dropped(plan, mirror).await?;
            files.merge(plan.release.put_objects(&self.mirrors()[mirror], &records).await?);
        }
        Ok((sent, files))
    }

    /// Rebuilds missing or damaged blocks of the newest version from the image, if it is available.
    async fn make_right(&self, plan: &Plan, i: usize) -> Result<Sent, Error> {
        let (mirror, mut sent) = (&self.mirrors()[i], Sent::default());
        for _ in 0..REMAKES_MAX {
            let lacking = plan.release.lacking(mirror, &self.base.known, i).await?;
            let Some(first) = lacking.first() else { return Ok(sent) };
            let remake = self.remake.clone().filter(|_| !weaken::is(Weakness::Remake));
            let Some(remake) = remake else { return Err(not_right(mirror, first)) };
            let warning = format!(
                "mirror {}: {} blocks are missing or damaged, {} first; they are made again",
                mirror.name(),
                lacking.len(),
                RepoPath::block(&first.id)
            );
            self.repository.watch.progress.event(Event::Warning(&warning));
            sent.add(self.remake(mirror, remake, lacking).await?);
        }
        match plan.release.lacking(mirror, &self.base.known, i).await?.first() {
            None => Ok(sent),
            Some(row) => Err(not_right(mirror, row)),
        }
    }

    async fn remake(&self, mirror: &OpenMirror, remake: Remake, rows: Vec<BlockRow>) -> Result<Sent, Error> {
        // Each block was read and found missing or damaged, whatever a listing says about it.
        let upload = Uploader::start(mirror, Presence::Likely, Arc::clone(&self.repository.watch.progress));
        let cancel = Arc::clone(&self.repository.watch.cancel);
        let pass = bridge::blocking(move || {
            let made = remake.run(&rows, &cancel, &|spooled| upload.send(Job::New(Arc::new(spooled))));
            made.map(|()| upload)
        });
        pass.await?.finish().await
    }

    async fn switch(&self, plan: &Plan, pages: &[Object], i: usize) -> Result<Files, Error> {
        let (is_behind, mirror) = (self.is_behind(plan, i), &self.mirrors()[i]);
        mirror.confirm().await?;
        let mut files = match is_behind {
            true => plan.release.switch(mirror).await?,
            false => Files::default(),
        };
        for page in pages {
            mirror.store.put_replace(&page.path, page.bytes.clone()).await?;
            files.add(page.bytes.len() as u64);
        }
        if mirror.is_unfinished() {
            mirror.store.sweep().await?;
        }
        Ok(files)
    }

    /// Reads the new head the way clients do: a cache may still return the previous head, but nothing else.
    async fn look_at_public(&self, plan: &Plan, mirror: &OpenMirror) -> Result<(), Error> {
        let Some(public) = &mirror.public else { return Ok(()) };
        let (path, mut wait) = (RepoPath::head(&self.name), PUBLIC_WAIT);
        loop {
            let state = head::read(&**public, &self.name, &self.repository.policy.of(&self.name)).await;
            let shown = match &state {
                HeadState::Verified(shown) if shown.file == plan.release.head => return Ok(()),
                HeadState::Verified(shown) => format!("version {}", shown.head.newest().version),
                HeadState::Absent => "nothing".to_owned(),
                HeadState::Damaged(flaw, _) | HeadState::Foreign(_, flaw, _) => flaw.what.clone(),
                HeadState::Unreadable(e) => e.to_string(),
            };
            if wait < PUBLIC_WAIT_MAX {
                tokio::time::sleep(wait).await;
                wait *= 2;
                continue;
            }
            let message = format!("{}{path}: clients are not shown the new head, but {shown}", public.location());
            let is_older = matches!(state, HeadState::Verified(_));
            if is_older {
                let warning = format!("mirror {}: {message}: a cache before the mirror?", mirror.name());
                self.repository.watch.progress.event(Event::Warning(&warning));
                return Ok(());
            }
            return Err(Error::new(ErrorKind::Unverified, message).hint(
                "let the web server hand out every file of the repository, *.head too, and set `read` to its URL",
            ));
        }
    }
}

fn not_right(mirror: &OpenMirror, row: &BlockRow) -> Error {
    let message = format!("{}/{}: missing or damaged", mirror.store.location(), RepoPath::block(&row.id));
    Error::new(ErrorKind::Unverified, message)
        .hint("hfl verify --repair puts it back, from another mirror or --seed IMAGE")
}

/// Starts no further upload; returns when the running ones have ended, or after [`STOP_WAIT`].
pub async fn stop_all(uploads: Uploads) {
    let ended = uploads.into_iter().flatten().map(|upload| {
        upload.stopper().stop();
        upload.finish()
    });
    let _ = timeout(STOP_WAIT, join_all(ended)).await;
}

fn too_few(ready: usize, needed: usize) -> Error {
    let message = format!("only {ready} mirrors are ready, {needed} are needed");
    Error::new(ErrorKind::Unreachable, message).hint("nothing was switched; run it again")
}
