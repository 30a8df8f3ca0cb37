//! Bringing a plan to the mirrors: each at its own pace up to the barrier, then all heads at once.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout};

use super::catch_up;
use super::error::{Error, ErrorKind};
use super::mirror::OpenMirror;
use super::plan::Plan;
use super::progress::{Event, cancelled};
use super::release::{Files, Object};
use super::report::MirrorReport;
use super::session::{Session, Uploads};
use super::upload::{Sent, Stop, Uploader};

/// How long what is under way may take to end once the user wants to stop.
const STOP_WAIT: Duration = Duration::from_secs(3);

/// What a mirror got before its head was switched.
type Delivered = Result<(Sent, Files), Error>;

impl Session {
    /// Sends, checks and switches; what became of each mirror.
    pub(super) async fn release(
        &mut self,
        plan: &Plan,
        pages: &[Object],
        uploads: Uploads,
    ) -> Result<Vec<MirrorReport>, Error> {
        self.touched = true;
        self.watch.progress.event(Event::Step("sending to the mirrors"));
        let mut delivered = self.deliver_all(plan, uploads).await?;
        let ready = self.mirrors.iter().filter(|m| m.is_up()).count();
        if ready < self.work.min_mirrors.max(1) {
            return Err(self.all_failed().unwrap_or_else(|| too_few(ready, self.work.min_mirrors)));
        }
        self.watch.progress.event(Event::Step("switching the heads"));
        // Whoever died before may have replaced a head and not its pages.
        let to_switch = |i: &usize| self.is_behind(plan, *i) || self.mirrors[*i].is_unfinished();
        let behind: Vec<usize> = (0..self.mirrors.len()).filter(|i| self.mirrors[*i].is_up() && to_switch(i)).collect();
        let switched = join_all(behind.iter().map(|&i| self.switch(plan, pages, i))).await;
        for (&i, switched) in behind.iter().zip(switched) {
            match switched {
                Ok(files) => delivered[i].1.merge(files),
                Err(e) => self.mirrors[i].fail(e),
            }
        }
        self.mirrors.iter_mut().for_each(|m| m.is_current = m.is_up());
        let reports = self.mirrors.iter().zip(delivered);
        Ok(reports.map(|(mirror, (sent, files))| MirrorReport::of(mirror, sent, files)).collect())
    }

    /// Waits until every mirror is ready or has failed; those that lag too far behind the others fail, too.
    async fn deliver_all(&mut self, plan: &Plan, uploads: Uploads) -> Result<Vec<(Sent, Files)>, Error> {
        let mut outcomes: Vec<Option<Delivered>> = self.mirrors.iter().map(|_| None).collect();
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
                let patience = async {
                    match deadline {
                        Some(at) => sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    Some((i, outcome)) = running.next() => {
                        lagging.remove(&i);
                        ready += usize::from(outcome.is_ok());
                        outcomes[i] = Some(outcome);
                        if ready >= self.work.min_mirrors.max(1) {
                            deadline.get_or_insert_with(|| Instant::now() + self.work.patience);
                        }
                    }
                    () = patience => break,
                    () = cancelled(&self.watch.cancel) => {
                        stoppers.iter().for_each(Stop::stop);
                        let ended = running.by_ref().for_each(|_| async {});
                        let _ = timeout(STOP_WAIT, ended).await;
                        return Err(Error::interrupted());
                    }
                }
            }
        }
        for mirror in lagging {
            outcomes[mirror] = Some(Err(lags(&self.mirrors[mirror], self.work.patience)));
        }
        Ok(self.take_in(outcomes))
    }

    fn take_in(&mut self, outcomes: Vec<Option<Delivered>>) -> Vec<(Sent, Files)> {
        let mirrors = self.mirrors.iter_mut().zip(outcomes);
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

    /// All that one mirror must hold before its head may be switched.
    async fn deliver(&self, plan: &Plan, upload: Uploader, mirror: usize) -> Delivered {
        let missing = self.missing(plan, mirror).into_iter().filter(|job| !plan.cut.remade.contains(&job.row().id));
        missing.for_each(|job| upload.send(job));
        let sent = upload.finish().await?;
        let mut files = Files::default();
        if self.is_behind(plan, mirror) || self.base.damaged.contains(mirror) {
            self.mirrors[mirror].confirm().await?;
            files = catch_up::copy_files(&self.base, &self.mirrors, mirror, self.is_signed()).await?;
            files.merge(plan.release.prepare(&self.mirrors[mirror], &self.base.known, mirror).await?);
        }
        Ok((sent, files))
    }

    async fn switch(&self, plan: &Plan, pages: &[Object], mirror: usize) -> Result<Files, Error> {
        let is_behind = self.is_behind(plan, mirror);
        let mirror = &self.mirrors[mirror];
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
}

/// Sends nothing more; returns when what is under way has ended, or after [`STOP_WAIT`].
pub(super) async fn stop_all(uploads: Uploads) {
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

fn lags(mirror: &OpenMirror, patience: Duration) -> Error {
    let waited = humantime::format_duration(patience);
    let message = format!("{}: not ready {waited} after the others", mirror.store.location());
    Error::new(ErrorKind::Unreachable, message).hint("run the same command again, or give it longer with --patience")
}
