//! One SFTP session: many requests under way at once, each with a deadline.
//!
//! Requests are sent in the order in which [`Session::send`] is called and answered whenever the server likes. What is
//! under way is limited by bytes, so that neither side has to hold more. The first missed deadline, the first packet
//! that makes no sense and the end of the connection end the session, and with it every request of it; there is no way
//! back, its owner makes a new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::failure::Failure;
use super::pending::{Ending, Pending, Shared};
use super::stream;
use super::wire::{self, Reply, Request};

/// What a session may have under way: more than a line of 1 Gbit/s holds in 50 ms.
const UNDER_WAY_KIB: usize = 8 << 10;
/// How long an answer may take, apart from the bytes that are under way before it.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// The slowest line that is still waited for.
const SLOWEST_KIB_PER_SECOND: u64 = 16;
/// A packet's data where the server does not say what it takes; every server takes this much.
const CHUNK_BYTES: usize = 32 << 10;
/// The most data in a packet, with room for what surrounds it.
const CHUNK_MAX_BYTES: u64 = 255 << 10;

/// An SFTP session.
pub struct Session {
    shared: Arc<Shared>,
    next: AtomicU32,
    tasks: [AbortHandle; 2],
    extensions: Vec<String>,
    read_chunk_bytes: usize,
    write_chunk_bytes: usize,
    /// The ssh connection, which ends with this.
    _connection: Box<dyn Send + Sync>,
}
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("extensions", &self.extensions).finish_non_exhaustive()
    }
}

impl Session {
    /// Begins a session on a channel whose other end speaks SFTP; `connection` lives as long as the session.
    pub async fn begin<S>(channel: S, connection: Box<dyn Send + Sync>) -> Result<Self, Failure>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (mut input, mut output) = tokio::io::split(channel);
        let lost = |e: std::io::Error| Failure::Lost(format!("no SFTP session: {e}"));
        output.write_all(&wire::hello()).await.map_err(lost)?;
        output.flush().await.map_err(lost)?;
        let extensions = wire::extensions(stream::packet(&mut input).await.map_err(lost)?)?;
        let (outgoing, packets) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(outgoing, UNDER_WAY_KIB));
        let tasks = [
            tokio::spawn(stream::read(input, Ending(Arc::clone(&shared)))).abort_handle(),
            tokio::spawn(stream::write(output, packets, Ending(Arc::clone(&shared)))).abort_handle(),
        ];
        let (read_chunk_bytes, write_chunk_bytes) = (CHUNK_BYTES, CHUNK_BYTES);
        let next = AtomicU32::new(1);
        let mut session =
            Self { shared, next, tasks, extensions, read_chunk_bytes, write_chunk_bytes, _connection: connection };
        session.ask_limits().await?;
        Ok(session)
    }

    /// How long packets may be.
    async fn ask_limits(&mut self) -> Result<(), Failure> {
        if !self.has("limits@openssh.com") {
            return Ok(());
        }
        if let Reply::Extended(mut limits) = self.ask(Request::extended("limits@openssh.com")).await? {
            let _packet = wire::long(&mut limits)?;
            let chunk = |limit: u64| if limit == 0 { CHUNK_BYTES } else { limit.clamp(1024, CHUNK_MAX_BYTES) as usize };
            self.read_chunk_bytes = chunk(wire::long(&mut limits)?);
            self.write_chunk_bytes = chunk(wire::long(&mut limits)?);
        }
        Ok(())
    }

    /// Whether the server has this extension.
    pub fn has(&self, extension: &str) -> bool {
        self.extensions.iter().any(|name| name == extension)
    }

    /// The most bytes of one read.
    pub fn read_chunk_bytes(&self) -> usize {
        self.read_chunk_bytes
    }

    /// The most bytes of one write.
    pub fn write_chunk_bytes(&self) -> usize {
        self.write_chunk_bytes
    }

    /// True once no request can succeed any more.
    pub fn is_over(&self) -> bool {
        self.shared.is_over()
    }

    /// Sends a request whose answer is short.
    pub async fn send(&self, request: Request) -> Result<Pending, Failure> {
        self.send_for(request, 0).await
    }

    /// Sends a request whose answer has up to `answer_bytes`, once there is room for it.
    pub async fn send_for(&self, request: Request, answer_bytes: usize) -> Result<Pending, Failure> {
        let kib = 1 + (request.len() + answer_bytes) / 1024;
        let room = Arc::clone(&self.shared.room).acquire_many_owned(kib as u32).await;
        let room = room.map_err(|_| self.shared.lost())?;
        let under_way = (UNDER_WAY_KIB - self.shared.room.available_permits()) as u64;
        let wait = ANSWER_WAIT + Duration::from_millis(under_way * 1000 / SLOWEST_KIB_PER_SECOND);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let pending = self.shared.expect(id, wait, room)?;
        let _ = self.shared.outgoing.send(request.finish(id));
        Ok(pending)
    }

    /// Sends a request and waits for its answer.
    pub async fn ask(&self, request: Request) -> Result<Reply, Failure> {
        self.send(request).await?.reply().await
    }

    /// Sends a request whose answer nobody waits for.
    pub fn forget(&self, request: Request) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let _ = self.shared.outgoing.send(request.finish(id));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}
