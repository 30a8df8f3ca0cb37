//! Delivers a plan to the mirrors: each uploads at its own pace, up to the barrier. No head is switched here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout};

use super::remake::Remake;
use super::upload::{Job, Sent, Stop, Uploader, Uploads};
use crate::error::{Error, ErrorKind};
use crate::format::block::BlockRow;
use crate::format::layout::RepoPath;
use crate::progress::{Event, Phase, cancelled};
use crate::publish::deltas::Deltas;
use crate::publish::object::Files;
use crate::publish::repository::mirror::{self, OpenMirror, Presence};
use crate::publish::version::planned::Planned;
use crate::system::bridge;
use crate::weaken::{self, Weakness};

/// How long running uploads may take to end once the user cancels.
const STOP_WAIT: Duration = Duration::from_secs(3);
/// How many times the blocks of one mirror are rebuilt from the image.
const REMAKES_MAX: usize = 2;

/// What was uploaded to a mirror.
pub type Sums = (Sent, Files);

/// Uploads under way, and how to make damaged blocks again.
pub struct Sending {
    /// The upload queue of each participating mirror.
    pub uploads: Uploads,
    /// How to rebuild blocks, if the image is available.
    pub remake: Option<Remake>,
    /// The deltas of the new version, if any.
    pub deltas: Option<Arc<Deltas>>,
}

/// A plan whose objects are all on the mirrors that are still up. Their heads may be switched.
pub struct Delivered<'a> {
    pub planned: Planned<'a>,
    /// What was sent to each mirror.
    pub sent: Vec<Sums>,
}

/// Uploads what each mirror lacks, and checks it.
///
/// # Errors
/// Fewer mirrors are ready than the configuration demands; interrupted by the user.
pub async fn deliver(mut planned: Planned<'_>, sending: Sending) -> Result<Delivered<'_>, Error> {
    planned.session.repository.watch.progress.event(Event::Phase(Phase::Send));
    let sent = planned.deliver_all(sending).await?;
    let repository = &planned.session.repository;
    let ready = repository.mirrors.iter().filter(|m| m.is_up()).count();
    let needed = repository.config.min_mirrors;
    if ready < needed.max(1) {
        return Err(repository.all_failed().unwrap_or_else(|| too_few(ready, needed)));
    }
    Ok(Delivered { planned, sent })
}

impl Planned<'_> {
    /// Waits until every mirror is ready or has failed; mirrors that lag too far behind the others fail too.
    async fn deliver_all(&mut self, sending: Sending) -> Result<Vec<Sums>, Error> {
        let Sending { uploads, remake, deltas } = sending;
        let config = &self.session.repository.config;
        let (patience, needed) = (config.patience, config.min_mirrors.max(1));
        let mut outcomes: Vec<Option<Result<Sums, Error>>> = self.session.mirrors().iter().map(|_| None).collect();
        let mut lagging: BTreeSet<usize> = BTreeSet::new();
        let stoppers: Vec<Stop> = uploads.iter().flatten().map(Uploader::stopper).collect();
        {
            let mut running = FuturesUnordered::new();
            for (i, upload) in uploads.into_iter().enumerate() {
                if let Some(upload) = upload {
                    lagging.insert(i);
                    let (this, remake, deltas) = (&*self, remake.as_ref(), deltas.as_ref());
                    running.push(async move { (i, this.deliver(upload, remake, deltas, i).await) });
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
                    () = cancelled(&self.session.repository.watch.cancel) => {
                        stoppers.iter().for_each(Stop::stop);
                        let ended = running.by_ref().for_each(|_| async {});
                        let _ = timeout(STOP_WAIT, ended).await;
                        return Err(Error::interrupted());
                    }
                }
            }
        }
        for mirror in lagging {
            outcomes[mirror] = Some(Err(mirror::lags(&self.session.mirrors()[mirror], patience)));
        }
        Ok(self.take_in(outcomes))
    }

    fn take_in(&mut self, outcomes: Vec<Option<Result<Sums, Error>>>) -> Vec<Sums> {
        let mirrors = self.session.repository.mirrors.iter_mut().zip(outcomes);
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
    async fn deliver(
        &self,
        upload: Uploader,
        remake: Option<&Remake>,
        deltas: Option<&Arc<Deltas>>,
        mirror: usize,
    ) -> Result<Sums, Error> {
        self.missing(mirror).await?.into_iter().for_each(|job| upload.send(job));
        let mut sent = upload.finish().await?;
        let mut files = Files::default();
        if self.is_behind(mirror) || self.session.base.damaged.contains(mirror) {
            self.session.mirrors()[mirror].confirm().await?;
            files = self.copy_files(mirror).await?;
            files.merge(self.put_deltas(deltas, mirror).await?);
            sent.add(self.make_right(remake, mirror).await?);
            let records = self.records_of_dropped(mirror).await?;
            files.merge(self.plan.release.put_objects(&self.session.mirrors()[mirror], &records).await?);
        }
        Ok((sent, files))
    }

    /// Rebuilds missing or damaged blocks of the newest version from the image, if it is available.
    async fn make_right(&self, remake: Option<&Remake>, i: usize) -> Result<Sent, Error> {
        let (mirror, mut sent) = (&self.session.mirrors()[i], Sent::default());
        for _ in 0..REMAKES_MAX {
            let lacking = self.plan.release.lacking(mirror, &self.session.base.known, i).await?;
            let Some(first) = lacking.first() else { return Ok(sent) };
            let Some(remake) = remake.filter(|_| !weaken::is(Weakness::Remake)) else {
                return Err(not_right(mirror, first));
            };
            let warning = format!(
                "mirror {}: {} blocks are missing or damaged, {} first; they are made again",
                mirror.name(),
                lacking.len(),
                RepoPath::block(&first.id)
            );
            self.session.repository.watch.progress.event(Event::Warning(&warning));
            sent.add(self.remake(mirror, remake.clone(), lacking).await?);
        }
        match self.plan.release.lacking(mirror, &self.session.base.known, i).await?.first() {
            None => Ok(sent),
            Some(row) => Err(not_right(mirror, row)),
        }
    }

    async fn remake(&self, mirror: &OpenMirror, remake: Remake, rows: Vec<BlockRow>) -> Result<Sent, Error> {
        // Each block was read and found missing or damaged, whatever a listing says about it.
        let upload = Uploader::start(mirror, Presence::Likely, Arc::clone(&self.session.repository.watch.progress));
        let cancel = Arc::clone(&self.session.repository.watch.cancel);
        let pass = bridge::blocking(move || {
            let made = remake.run(&rows, &cancel, &|spooled| upload.send(Job::New(Arc::new(spooled))));
            made.map(|()| upload)
        });
        pass.await?.finish().await
    }
}

fn not_right(mirror: &OpenMirror, row: &BlockRow) -> Error {
    let message = format!("{}/{}: missing or damaged", mirror.store.location(), RepoPath::block(&row.id));
    Error::new(ErrorKind::Unverified, message)
        .hint("hfl verify --repair restores it from another mirror or --seed IMAGE")
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
