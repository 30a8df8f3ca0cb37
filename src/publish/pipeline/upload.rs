//! Uploads blocks to one mirror, many at once, at the mirror's own pace.
//!
//! A block that exists already is read and checked: it stays if it is intact, whatever wrote it, and is replaced
//! otherwise.

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
use crate::format::block::BlockRow;
use crate::format::layout::RepoPath;
use crate::progress::{Event, Progress};
use crate::publish::base::listing::is_right;
use crate::publish::base::source_order::SourceOrder;
use crate::publish::repository::mirror::{OpenMirror, Presence};
use crate::repo;
use crate::store::{Put, Store};
use crate::system::bridge;

/// A block to upload.
#[derive(Debug, Clone)]
pub enum Job {
    /// A newly compressed block.
    New(Arc<Spooled>),
    /// A block to copy from other mirrors, listed in the order to try them.
    Copy(BlockRow, Arc<[Arc<dyn Store>]>),
}

impl Job {
    /// The block's index row.
    pub fn row(&self) -> &BlockRow {
        match self {
            Job::New(spooled) => spooled.row(),
            Job::Copy(row, _) => row,
        }
    }

    /// Compressed size in bytes.
    pub fn bytes(&self) -> u64 {
        u64::from(self.row().zlib_bytes)
    }
}

/// Upload counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Blocks uploaded.
    pub objects: u64,
    /// Bytes uploaded.
    pub bytes: u64,
    /// Blocks that existed already and were intact.
    pub found: u64,
    /// Blocks that existed already, were damaged and are replaced.
    pub repaired: u64,
}

/// The upload queue of each participating mirror, in the order of mirrors.toml.
pub type Uploads = Vec<Option<Uploader>>;

/// The upload queue of one mirror.
pub struct Uploader {
    queue: mpsc::UnboundedSender<Job>,
    task: JoinHandle<Result<Sent, Error>>,
    mirror: String,
    progress: Arc<dyn Progress>,
    stop: Stop,
    load: Load,
}

/// The upload backlog of one mirror, and a handle to abandon it.
#[derive(Debug, Clone)]
pub struct Load {
    waiting: Arc<AtomicU64>,
    is_left: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Load {
    /// Backlog in bytes, including uploads in flight.
    pub fn bytes(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// Whether blocks are still being uploaded.
    pub fn is_up(&self) -> bool {
        !self.task.is_finished() && !self.is_left.load(Relaxed)
    }

    /// Stops uploading and drops the backlog.
    pub fn leave_behind(&self) {
        self.is_left.store(true, Relaxed);
        self.task.abort();
    }

    /// Why the mirror was left behind, if it was.
    fn why(&self) -> Option<Error> {
        let megabytes = self.bytes() / 1_000_000;
        let left = || Error::new(ErrorKind::Unreachable, format!("it is too slow, {megabytes} MB wait for it"));
        let advice =
            "run the same command again; more room in XDG_CACHE_HOME, or a longer --patience, lets others wait for it";
        self.is_left.load(Relaxed).then(|| left().hint(advice))
    }
}

/// Stops the uploads to a mirror before its queue is empty; uploads in flight still complete.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Starts no further upload.
    pub fn stop(&self) {
        self.0.store(true, Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// A task that is aborted when its handle is dropped.
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
    /// Starts the uploads to a mirror; must be called inside a Tokio runtime.
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

    /// A handle to end it early.
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// A handle to the backlog.
    pub fn load(&self) -> Load {
        self.load.clone()
    }

    /// Queues a block; after a failure it is dropped, which frees its room in the spool.
    pub fn send(&self, job: Job) {
        if !self.load.is_up() {
            return;
        }
        self.load.waiting.fetch_add(job.bytes(), Relaxed);
        self.progress.event(Event::ToSend { mirror: &self.mirror, bytes: job.bytes() });
        let _ = self.queue.send(job);
    }

    /// Waits until the queue is uploaded.
    ///
    /// # Errors
    /// The first block that could not be uploaded; a mirror that was left behind.
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
    /// Runs jobs until the queue is closed; after a failure the rest is dropped with the queue.
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

    /// Whether the upload can be skipped; only checks that cost less than the upload itself.
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
                // A listing may omit blocks that exist.
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

    /// The compressed block from the first holder with an intact copy.
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
            .hint("restore it with hfl verify --repair --seed IMAGE, from an image that has it; or retire its version"))
    }
}

async fn read_spooled(spooled: &Arc<Spooled>) -> Result<Bytes, Error> {
    let spooled = Arc::clone(spooled);
    let read = bridge::blocking(move || spooled.read()).await;
    read.map_err(|e| Error::local(format!("the spool file: {e}")))
}

impl Sent {
    /// Counts a block that will be uploaded.
    pub fn expect(&mut self, row: &BlockRow) {
        self.objects += 1;
        self.bytes += u64::from(row.zlib_bytes);
    }

    /// Adds further counts.
    pub fn add(&mut self, more: Sent) {
        self.objects += more.objects;
        self.bytes += more.bytes;
        self.found += more.found;
        self.repaired += more.repaired;
    }
}
