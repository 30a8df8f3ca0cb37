//! Sending blocks to one mirror, many at once, at the mirror's own pace.
//!
//! A block that is there already is read and checked: it stays if it is right, whatever wrote it, and is replaced if it
//! is not.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinHandle};

use super::spool::Spooled;
use crate::error::{Error, ErrorKind};
use crate::format::index::BlockRow;
use crate::format::layout::RepoPath;
use crate::progress::{Event, Progress};
use crate::publish::base::listing::is_right;
use crate::publish::base::source_order::SourceOrder;
use crate::publish::repository::mirror::{OpenMirror, Presence};
use crate::repo;
use crate::store::{Put, Store};
use crate::system::bridge;

/// A block to be sent.
#[derive(Debug, Clone)]
pub enum Job {
    /// One that was made just now.
    New(Arc<Spooled>),
    /// One that other mirrors hold, in the order in which to ask them.
    Copy(BlockRow, Arc<[Arc<dyn Store>]>),
}

impl Job {
    /// The row that lists the block.
    pub fn row(&self) -> &BlockRow {
        match self {
            Job::New(spooled) => spooled.row(),
            Job::Copy(row, _) => row,
        }
    }

    /// Bytes of the block's file.
    pub fn bytes(&self) -> u64 {
        u64::from(self.row().zlib_bytes)
    }
}

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Blocks.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks that were there already, and right.
    pub found: u64,
    /// Blocks that were there already, and wrong.
    pub repaired: u64,
}

/// The queue of one mirror.
pub struct Uploader {
    queue: mpsc::UnboundedSender<Job>,
    task: JoinHandle<Result<Sent, Error>>,
    mirror: String,
    progress: Arc<dyn Progress>,
    stop: Stop,
    load: Load,
}

/// What waits for one mirror, and the means to end that.
#[derive(Debug, Clone)]
pub struct Load {
    waiting: Arc<AtomicU64>,
    is_left: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Load {
    /// Bytes of the files that wait, those on their way with them.
    pub fn bytes(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// Whether blocks are still sent.
    pub fn is_up(&self) -> bool {
        !self.task.is_finished() && !self.is_left.load(Relaxed)
    }

    /// Sends nothing more, and drops what waits.
    pub fn leave_behind(&self) {
        self.is_left.store(true, Relaxed);
        self.task.abort();
    }

    /// Why the mirror got no further, if it was left behind.
    fn why(&self) -> Option<Error> {
        let megabytes = self.bytes() / 1_000_000;
        let left = || Error::new(ErrorKind::Unreachable, format!("it is too slow, {megabytes} MB wait for it"));
        let advice =
            "run the same command again; more room in XDG_CACHE_HOME, or a longer --patience, lets others wait for it";
        self.is_left.load(Relaxed).then(|| left().hint(advice))
    }
}

/// Ends the sending to a mirror before its queue is empty; what is under way is still brought to its end.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Has no further block sent.
    pub fn stop(&self) {
        self.0.store(true, Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// A task that is ended when nobody waits for it any more.
struct Ending<T>(JoinHandle<T>);

impl<T> Future for Ending<T> {
    type Output = Result<T, tokio::task::JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Uploader {
    /// Starts sending to a mirror; must be called inside a runtime.
    pub fn start(mirror: &OpenMirror, presence: Presence, progress: Arc<dyn Progress>) -> Self {
        let (queue, jobs_queue) = mpsc::unbounded_channel();
        let (name, store) = (mirror.name().to_owned(), Arc::clone(&mirror.store));
        let jobs = mirror.jobs();
        let waiting = Arc::new(AtomicU64::new(0));
        let sender = Sender {
            mirror: name.clone(),
            store,
            presence,
            progress: Arc::clone(&progress),
            waiting: Arc::clone(&waiting),
            unreliable: SourceOrder::default(),
        };
        let stop = Stop::default();
        let task = tokio::spawn(sender.run(jobs_queue, jobs, stop.clone()));
        let load = Load { waiting, is_left: Arc::default(), task: task.abort_handle() };
        Self { queue, task, mirror: name, progress, stop, load }
    }

    /// What ends it early.
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// What waits to be sent.
    pub fn load(&self) -> Load {
        self.load.clone()
    }

    /// Adds a block; one that comes after a failure is dropped, and its room freed.
    pub fn send(&self, job: Job) {
        if !self.load.is_up() {
            return;
        }
        self.load.waiting.fetch_add(job.bytes(), Relaxed);
        self.progress.event(Event::ToSend { mirror: &self.mirror, bytes: job.bytes() });
        let _ = self.queue.send(job);
    }

    /// Waits until all of it is sent.
    ///
    /// # Errors
    /// The first block that could not be sent; a mirror that was left behind.
    pub async fn finish(self) -> Result<Sent, Error> {
        let Self { queue, task, load, .. } = self;
        drop(queue);
        let failed = |e| load.why().unwrap_or_else(|| Error::local(format!("sending failed: {e}")));
        Ending(task).await.unwrap_or_else(|e| Err(failed(e)))
    }
}

struct Sender {
    mirror: String,
    store: Arc<dyn Store>,
    presence: Presence,
    progress: Arc<dyn Progress>,
    waiting: Arc<AtomicU64>,
    unreliable: SourceOrder,
}

impl Sender {
    /// Takes jobs until the queue is closed; after a failure the rest is dropped with the queue.
    async fn run(self, mut queue: mpsc::UnboundedReceiver<Job>, jobs: usize, stop: Stop) -> Result<Sent, Error> {
        let sender = Arc::new(self);
        let room = Arc::new(Semaphore::new(jobs));
        let mut running = tokio::task::JoinSet::new();
        let mut sent = Sent::default();
        loop {
            while let Some(done) = running.try_join_next() {
                sent.add(done.unwrap_or_else(|e| Err(Error::local(e.to_string())))?);
            }
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
            let Some(job) = queue.recv().await.filter(|_| !stop.is_stopped()) else { break };
            let sender = Arc::clone(&sender);
            running.spawn(async move {
                let outcome = sender.send(job).await;
                drop(permit);
                outcome
            });
        }
        while let Some(done) = running.join_next().await {
            sent.add(done.unwrap_or_else(|e| Err(Error::local(e.to_string())))?);
        }
        Ok(sent)
    }

    async fn send(&self, job: Job) -> Result<Sent, Error> {
        let row = *job.row();
        let sent = match self.is_there(&row).await? {
            true => Sent { found: 1, ..Sent::default() },
            false => self.upload(&job, row).await?,
        };
        self.waiting.fetch_sub(job.bytes(), Relaxed);
        self.progress.event(Event::Sent { mirror: &self.mirror, bytes: job.bytes() });
        Ok(sent)
    }

    /// Whether the block need not be sent, as far as that can be known for less than sending it.
    async fn is_there(&self, row: &BlockRow) -> Result<bool, Error> {
        match &self.presence {
            Presence::Unlikely => Ok(false),
            Presence::Listed(listing) => Ok(listing.holds(row)),
            Presence::Likely => match self.store.size(&RepoPath::block(&row.id)).await? {
                Some(_) => is_right(&*self.store, row).await,
                None => Ok(false),
            },
        }
    }

    async fn upload(&self, job: &Job, row: BlockRow) -> Result<Sent, Error> {
        let file = match job {
            Job::New(spooled) => read_spooled(spooled).await?,
            Job::Copy(row, holders) => match self.copy_of(row, holders).await {
                Ok(file) => file,
                // A listing can leave out what is there.
                Err(_) if is_right(&*self.store, row).await.unwrap_or(false) => {
                    return Ok(Sent { found: 1, ..Sent::default() });
                }
                Err(e) => return Err(e),
            },
        };
        let bytes = file.len() as u64;
        let path = RepoPath::block(&row.id);
        Ok(match self.store.put_new(&path, file.clone()).await? {
            Put::Created => Sent { objects: 1, bytes, ..Sent::default() },
            Put::Exists if is_right(&*self.store, &row).await? => Sent { found: 1, ..Sent::default() },
            Put::Exists => {
                self.store.put_replace(&path, file).await?;
                Sent { objects: 1, bytes, repaired: 1, ..Sent::default() }
            }
        })
    }

    /// The block's file from the first holder that has it right.
    async fn copy_of(&self, row: &BlockRow, holders: &[Arc<dyn Store>]) -> Result<Bytes, Error> {
        let mut why = format!("no mirror holds block {}", row.id);
        for holder in self.unreliable.order(holders.iter().map(|holder| &**holder)) {
            match repo::block(holder, row).await {
                Ok((_, file)) => return Ok(file),
                Err(e) => why = e.to_string(),
            }
            self.unreliable.note(holder);
        }
        Err(Error::new(ErrorKind::Unverified, why)
            .hint("hfl verify --repair --seed IMAGE puts it back from an image that has it; or retire its version"))
    }
}

async fn read_spooled(spooled: &Arc<Spooled>) -> Result<Bytes, Error> {
    let spooled = Arc::clone(spooled);
    let read = bridge::blocking(move || spooled.read()).await;
    read.map_err(|e| Error::local(format!("the spool file: {e}")))
}

impl Sent {
    /// Counts a block that is going to be sent.
    pub fn expect(&mut self, row: &BlockRow) {
        self.objects += 1;
        self.bytes += u64::from(row.zlib_bytes);
    }

    /// Counts more of them.
    pub fn add(&mut self, more: Sent) {
        self.objects += more.objects;
        self.bytes += more.bytes;
        self.found += more.found;
        self.repaired += more.repaired;
    }
}
