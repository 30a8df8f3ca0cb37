//! One SFTP session: many requests in flight, each with a deadline.
//!
//! Requests are sent in the order of the calls of [`Session::send`]; replies come in any order. The bytes in flight are
//! limited, which bounds the memory on both sides. A missed deadline, a malformed packet or the end of the connection
//! ends the session and fails all its requests. A session never recovers; its owner opens a new one.

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

/// Limit of the data in flight: more than the bandwidth-delay product of 1 Gbit/s and 50 ms.
const UNDER_WAY_KIB: usize = 8 << 10;
/// Deadline of a reply, plus the time for the bytes in flight before it.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// Minimum throughput, for the deadlines.
const SLOWEST_KIB_PER_SECOND: u64 = 16;
/// Data in a packet if the server does not report its limit; every server accepts this size.
const CHUNK_BYTES: usize = 32 << 10;
/// Maximum data in a packet, less room for the headers.
const CHUNK_MAX_BYTES: u64 = 255 << 10;

/// An SFTP session.
pub struct Session {
    shared: Arc<Shared>,
    next: AtomicU32,
    tasks: [AbortHandle; 2],
    extensions: Vec<String>,
    read_chunk_bytes: usize,
    write_chunk_bytes: usize,
    /// The ssh connection, which ends with the session.
    _connection: Box<dyn Send + Sync>,
}
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("extensions", &self.extensions).finish_non_exhaustive()
    }
}

impl Session {
    /// Starts a session on an SFTP channel; `connection` lives as long as the session.
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

    /// Queries the server's limits on packet sizes.
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

    /// Whether the server supports this extension.
    pub fn has(&self, extension: &str) -> bool {
        self.extensions.iter().any(|name| name == extension)
    }

    /// Maximum bytes of one read.
    pub fn read_chunk_bytes(&self) -> usize {
        self.read_chunk_bytes
    }

    /// Maximum bytes of one write.
    pub fn write_chunk_bytes(&self) -> usize {
        self.write_chunk_bytes
    }

    /// True once the session has ended.
    pub fn is_over(&self) -> bool {
        self.shared.is_over()
    }

    /// Sends a request with a short reply.
    pub async fn send(&self, request: Request) -> Result<Pending, Failure> {
        self.send_for(request, 0).await
    }

    /// Sends a request with a reply of up to `answer_bytes`, once the limit of bytes in flight permits it.
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

    /// Sends a request and waits for the reply.
    pub async fn ask(&self, request: Request) -> Result<Reply, Failure> {
        self.send(request).await?.reply().await
    }

    /// Sends a request and ignores the reply.
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
