//! Sending blocks to one mirror, many at once, at the mirror's own pace.
//!
//! A block that is there already is read and checked: it stays if it is right, whatever wrote it, and is replaced if it
//! is not.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::error::{Error, ErrorKind};
use super::progress::{Event, Progress};
use super::spool::Spooled;
use crate::index::BlockRow;
use crate::layout::RepoPath;
use crate::read::{self, ReadErrorKind};
use crate::store::{Put, Store, StoreErrorKind};

/// A block to be sent.
#[derive(Debug, Clone)]
pub enum Job {
    /// One that was made just now.
    New(Arc<Spooled>),
    /// One that other mirrors hold, in the order in which to ask them.
    Copy(BlockRow, Arc<[Arc<dyn Store>]>),
}

impl Job {
    /// Bytes of the block's file.
    pub fn bytes(&self) -> u64 {
        match self {
            Job::New(spooled) => u64::from(spooled.row().zlib_bytes),
            Job::Copy(row, _) => u64::from(row.zlib_bytes),
        }
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
#[derive(Debug)]
pub struct Uploader {
    queue: mpsc::UnboundedSender<Job>,
    task: JoinHandle<Result<Sent, Error>>,
}

impl Uploader {
    /// Starts sending to `store`; must be called inside a runtime.
    pub fn start(mirror: String, store: Arc<dyn Store>, jobs: Option<u32>, progress: Arc<dyn Progress>) -> Self {
        let (queue, jobs_queue) = mpsc::unbounded_channel();
        let sender = Sender { mirror, store, progress };
        let jobs = jobs.map_or(sender.store.jobs(), |jobs| jobs as usize);
        let task = tokio::spawn(sender.run(jobs_queue, jobs));
        Self { queue, task }
    }

    /// Adds a block; one that comes after a failure is dropped, and its room freed.
    pub fn send(&self, job: Job) {
        let _ = self.queue.send(job);
    }

    /// Waits until all of it is sent.
    ///
    /// # Errors
    /// The first block that could not be sent.
    pub async fn finish(self) -> Result<Sent, Error> {
        drop(self.queue);
        self.task.await.unwrap_or_else(|e| Err(Error::local(format!("sending failed: {e}"))))
    }
}

struct Sender {
    mirror: String,
    store: Arc<dyn Store>,
    progress: Arc<dyn Progress>,
}

impl Sender {
    /// Takes jobs until the queue is closed; after a failure the rest is dropped with the queue.
    async fn run(self, mut queue: mpsc::UnboundedReceiver<Job>, jobs: usize) -> Result<Sent, Error> {
        let sender = Arc::new(self);
        let room = Arc::new(Semaphore::new(jobs));
        let mut running = tokio::task::JoinSet::new();
        let mut sent = Sent::default();
        loop {
            while let Some(done) = running.try_join_next() {
                sent.add(done.unwrap_or_else(|e| Err(Error::local(e.to_string())))?);
            }
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
            let Some(job) = queue.recv().await else { break };
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
        let (row, file) = match &job {
            Job::New(spooled) => (*spooled.row(), read_spooled(spooled).await?),
            Job::Copy(row, holders) => (*row, self.copy_of(row, holders).await?),
        };
        let bytes = file.len() as u64;
        let path = RepoPath::block(&row.id);
        let sent = match self.store.put_new(&path, file.clone()).await? {
            Put::Created => Sent { objects: 1, bytes, ..Sent::default() },
            Put::Exists if self.is_right(&row).await? => Sent { found: 1, ..Sent::default() },
            Put::Exists => {
                self.store.put_replace(&path, file).await?;
                Sent { objects: 1, bytes, repaired: 1, ..Sent::default() }
            }
        };
        self.progress.event(Event::Sent { mirror: &self.mirror, bytes: sent.bytes });
        Ok(sent)
    }

    /// Whether what lies in the block's place is the block.
    async fn is_right(&self, row: &BlockRow) -> Result<bool, Error> {
        match read::block(&*self.store, row).await {
            Ok(_) => Ok(true),
            Err(e) => match e.kind() {
                ReadErrorKind::Unverified | ReadErrorKind::Store(StoreErrorKind::TooLong) => Ok(false),
                _ => Err(e.into()),
            },
        }
    }

    /// The block's file from the first holder that has it right.
    async fn copy_of(&self, row: &BlockRow, holders: &[Arc<dyn Store>]) -> Result<Bytes, Error> {
        let mut why = format!("no mirror holds block {}", row.id);
        for holder in holders {
            match read::block(&**holder, row).await {
                Ok((_, file)) => return Ok(file),
                Err(e) => why = e.to_string(),
            }
        }
        Err(Error::new(ErrorKind::Unverified, why))
    }
}

async fn read_spooled(spooled: &Arc<Spooled>) -> Result<Bytes, Error> {
    let spooled = Arc::clone(spooled);
    let read = tokio::task::spawn_blocking(move || spooled.read()).await;
    let read = read.map_err(|e| Error::local(e.to_string()))?;
    read.map_err(|e| Error::local(format!("the spool file: {e}")))
}

impl Sent {
    fn add(&mut self, more: Sent) {
        self.objects += more.objects;
        self.bytes += more.bytes;
        self.found += more.found;
        self.repaired += more.repaired;
    }
}
