//! Requests in flight, their reply channels and their deadlines.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::failure::Failure;
use super::wire::{self, Attributes, Named, Reply, Request};

/// Maximum time without any reply while requests are in flight.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// State shared by a session, its tasks and its requests.
pub struct Shared {
    pub outgoing: mpsc::UnboundedSender<Bytes>,
    pub room: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
}

struct Waiting {
    requests: HashMap<u32, (oneshot::Sender<Reply>, OwnedSemaphorePermit)>,
    /// Time of the last reply, or of the first request after an idle period.
    heard: Instant,
    ended: Option<String>,
}

impl Shared {
    /// No requests yet, with at most `room_kib` KiB in flight.
    pub fn new(outgoing: mpsc::UnboundedSender<Bytes>, room_kib: usize) -> Self {
        let waiting = Waiting { requests: HashMap::new(), heard: Instant::now(), ended: None };
        Self { outgoing, room: Arc::new(Semaphore::new(room_kib)), waiting: Mutex::new(waiting) }
    }

    /// Registers request `id`, about to be sent, with a deadline of `wait` from now.
    pub fn expect(self: &Arc<Self>, id: u32, wait: Duration, room: OwnedSemaphorePermit) -> Result<Pending, Failure> {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.ended.is_some() {
            drop(waiting);
            return Err(self.lost());
        }
        if waiting.requests.is_empty() {
            waiting.heard = Instant::now();
        }
        waiting.requests.insert(id, (sender, room));
        Ok(Pending { shared: Arc::clone(self), answer, deadline: Instant::now() + wait, wait })
    }

    /// True once the session has ended.
    pub fn is_over(&self) -> bool {
        self.lock().ended.is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the session and fails its requests; the first reason is kept.
    pub fn end(&self, why: &str) {
        let mut waiting = self.lock();
        waiting.ended.get_or_insert_with(|| why.to_owned());
        waiting.requests.clear();
        self.room.close();
    }

    /// True if requests are in flight and no reply came for too long.
    pub fn is_silent(&self) -> bool {
        let waiting = self.lock();
        !waiting.requests.is_empty() && waiting.heard.elapsed() > SILENCE_MAX
    }

    /// The failure for an ended session, with the reason.
    pub fn lost(&self) -> Failure {
        Failure::Lost(self.lock().ended.clone().unwrap_or_else(|| "the connection ended".into()))
    }

    /// Delivers a reply to its request; the handle in a reply to a cancelled request is closed.
    pub fn answered(&self, id: u32, reply: Reply) {
        let mut waiting = self.lock();
        waiting.heard = Instant::now();
        let Some((sender, _room)) = waiting.requests.remove(&id) else { return };
        drop(waiting);
        if let Err(Reply::Handle(handle)) = sender.send(reply) {
            let _ = self.outgoing.send(Request::new(wire::CLOSE).bytes(&handle).finish(u32::MAX));
        }
    }
}

/// Ends the session when the task that holds this ends for any reason.
pub struct Ending(pub Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end("the server ended the connection");
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct Pending {
    shared: Arc<Shared>,
    answer: oneshot::Receiver<Reply>,
    deadline: Instant,
    wait: Duration,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Pending {
    /// Waits for the reply, of any kind.
    pub async fn reply(self) -> Result<Reply, Failure> {
        match tokio::time::timeout_at(self.deadline, self.answer).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(self.shared.lost()),
            Err(_) => {
                self.shared.end(&format!("no answer within {} s", self.wait.as_secs()));
                Err(self.shared.lost())
            }
        }
    }

    /// Waits for the status "OK".
    pub async fn done(self) -> Result<(), Failure> {
        match self.reply().await? {
            Reply::Status { code: 0, .. } => Ok(()),
            other => Err(Failure::unexpected(other)),
        }
    }

    pub async fn handle(self) -> Result<Bytes, Failure> {
        match self.reply().await? {
            Reply::Handle(handle) => Ok(handle),
            other => Err(Failure::unexpected(other)),
        }
    }

    pub async fn data(self) -> Result<Bytes, Failure> {
        match self.reply().await? {
            Reply::Data(data) => Ok(data),
            other => Err(Failure::unexpected(other)),
        }
    }

    pub async fn attributes(self) -> Result<Attributes, Failure> {
        match self.reply().await? {
            Reply::Attributes(attributes) => Ok(attributes),
            other => Err(Failure::unexpected(other)),
        }
    }

    pub async fn names(self) -> Result<Vec<Named>, Failure> {
        match self.reply().await? {
            Reply::Names(names) => Ok(names),
            other => Err(Failure::unexpected(other)),
        }
    }
}
