//! The transmission phase: answers the requests of one connection in parallel.
//!
//! Each connection is limited in requests and in bytes. That is the back-pressure: if a client does not take its
//! replies, no further requests are read from it. A panic in one request is one `EIO`.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::handshake::Agreed;
use super::runs::runs;
use super::wire::{Chunk, Request, command, error, simple_reply};
use super::{Export, READ_MAX_BYTES};
use crate::client::image::READ_MAX_BYTES as PIECE_BYTES;
use crate::client::notice::Notice;
use crate::repo::ReadError;

/// Limit of concurrent requests per connection.
const REQUESTS_MAX: usize = 16;
/// Limit of the replies in memory per connection, in bytes: one of the largest, which may have to be sent whole.
const ROOM_BYTES: u32 = READ_MAX_BYTES;
/// The smallest hole sent as such: a chunk header and its handling cost as much as some zeros.
const HOLE_MIN_BYTES: usize = 16 << 10;
/// Limit of runs in one block status.
const RUNS_MAX: usize = 1024;
/// Limit of blocks that one request prefetches.
const CACHE_BLOCKS_MAX: usize = 64;
/// The data of a write is read in pieces of this many bytes and discarded.
const FORGOTTEN_BYTES: usize = 16 << 10;

/// A connection, shared by its requests.
struct Connection<W> {
    writer: Mutex<W>,
    export: Arc<Export>,
    agreed: Agreed,
}

/// Answers requests until the client leaves.
///
/// # Errors
/// A client that violates the protocol; errors of the connection.
pub async fn transmit<R, W>(mut reader: R, writer: W, export: Arc<Export>, agreed: Agreed) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let connection = Arc::new(Connection { writer: Mutex::new(writer), export, agreed });
    let (places, room) = (Arc::new(Semaphore::new(REQUESTS_MAX)), Arc::new(Semaphore::new(ROOM_BYTES as usize)));
    // Dropped with all requests in it as soon as the client has gone.
    let mut under_way = JoinSet::new();
    loop {
        let mut head = [0; Request::BYTES];
        reader.read_exact(&mut head).await?;
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "a request that is none");
        let request = Request::parse(&head).ok_or_else(wrong)?;
        match request.command {
            command::DISC => break,
            command::WRITE => forget(&mut reader, request.bytes).await?,
            _ => {}
        }
        let place = acquire(&places, 1).await?;
        let held = acquire(&room, connection.room_for(&request)).await?;
        while under_way.try_join_next().is_some() {}
        under_way.spawn(Arc::clone(&connection).answer(request, (place, held)));
    }
    // Requests in flight are still answered, if the client waits for that.
    tokio::select! {
        () = async { while under_way.join_next().await.is_some() {} } => {}
        _ = reader.read_u8() => {}
    }
    Ok(())
}

async fn acquire(semaphore: &Arc<Semaphore>, permits: u32) -> io::Result<OwnedSemaphorePermit> {
    Arc::clone(semaphore).acquire_many_owned(permits).await.map_err(io::Error::other)
}

/// Reads and discards the data of a write.
async fn forget(reader: &mut (impl AsyncRead + Unpin), bytes: u32) -> io::Result<()> {
    if bytes > READ_MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a write of more bytes than it was told"));
    }
    let (mut left, mut forgotten) = (bytes as usize, [0; FORGOTTEN_BYTES]);
    while left > 0 {
        let piece = left.min(FORGOTTEN_BYTES);
        reader.read_exact(&mut forgotten[..piece]).await?;
        left -= piece;
    }
    Ok(())
}

impl<W: AsyncWrite + Unpin + Send + 'static> Connection<W> {
    /// Whether the reply is sent in pieces; otherwise it must be complete before its first byte is sent.
    fn in_pieces(&self, request: &Request) -> bool {
        self.agreed.structured && request.flags & command::FLAG_DF == 0
    }

    fn room_for(&self, request: &Request) -> u32 {
        match request.command {
            command::READ if self.in_pieces(request) => request.bytes.min(PIECE_BYTES as u32),
            command::READ => request.bytes.min(ROOM_BYTES),
            _ => 0,
        }
    }

    async fn answer(self: Arc<Self>, request: Request, held: (OwnedSemaphorePermit, OwnedSemaphorePermit)) {
        let connection = Arc::clone(&self);
        let mut answered = JoinSet::new();
        answered.spawn(async move { connection.carry_out(&request).await });
        let ended = answered.join_next().await;
        if ended.is_some_and(|ended| ended.is_err_and(|e| e.is_panic())) {
            let _ = self.fail(&request, error::IO, "this request could not be carried out").await;
        }
        drop(held);
    }

    async fn carry_out(&self, request: &Request) -> io::Result<()> {
        let size = self.export.size();
        let range = request.offset..request.offset.saturating_add(request.bytes.into());
        match request.command {
            command::WRITE | command::TRIM | command::WRITE_ZEROES | command::RESIZE => {
                self.fail(request, error::PERM, "the export is read-only").await
            }
            command::READ | command::CACHE | command::BLOCK_STATUS if range.end > size || range.is_empty() => {
                self.fail(request, error::INVAL, "not inside the image").await
            }
            command::READ if request.bytes > READ_MAX_BYTES => {
                self.fail(request, error::INVAL, "more than can be read at once").await
            }
            command::READ => self.read(request, range).await,
            command::CACHE => self.cache(request, range).await,
            command::BLOCK_STATUS if self.agreed.allocation => self.status(request, range).await,
            command::FLUSH => self.done(request).await,
            _ => self.fail(request, error::INVAL, "no request that is known here").await,
        }
    }

    async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut writer = self.writer.lock().await;
        writer.write_all(bytes).await?;
        writer.flush().await
    }

    async fn fail(&self, request: &Request, error: u32, why: &str) -> io::Result<()> {
        if !self.agreed.structured {
            return self.write(&simple_reply(request.cookie, error)).await;
        }
        let mut reply = Vec::new();
        Chunk::Error(error, why).write(request.cookie, true, &mut reply);
        self.write(&reply).await
    }

    /// Reports success without data.
    async fn done(&self, request: &Request) -> io::Result<()> {
        self.write(&simple_reply(request.cookie, 0)).await
    }

    async fn read(&self, request: &Request, range: Range<u64>) -> io::Result<()> {
        let reads = &self.export.status.reads;
        reads.asked.fetch_add(1, Relaxed);
        if let Some(prefetch) = &self.export.prefetch {
            prefetch.read(&range);
        }
        let offset = range.start;
        let sent = if self.in_pieces(request) {
            self.send_pieces(request, range).await
        } else {
            self.send_whole(request, range).await
        };
        match sent {
            Ok(sent) => sent,
            Err(error) => {
                reads.failed.fetch_add(1, Relaxed);
                self.export.observer.notice(Notice::ReadFailed { offset, error });
                self.fail(request, error::IO, "no mirror gives these bytes").await
            }
        }
    }

    /// The outer error is a read error, before anything was sent; the inner one is of the connection.
    async fn send_whole(&self, request: &Request, range: Range<u64>) -> Result<io::Result<()>, ReadError> {
        let mut reply = Vec::with_capacity(request.bytes as usize + 32);
        if self.agreed.structured {
            Chunk::Data(range.start, request.bytes).write(request.cookie, true, &mut reply);
        } else {
            reply.extend_from_slice(&simple_reply(request.cookie, 0));
        }
        for start in range.clone().step_by(PIECE_BYTES) {
            self.export.read(start..range.end.min(start + PIECE_BYTES as u64), &mut reply).await?;
        }
        Ok(self.write(&reply).await)
    }

    /// Sends a chunk for each piece and each hole. After the outer error, a read error, the reply can still be
    /// completed.
    async fn send_pieces(&self, request: &Request, range: Range<u64>) -> Result<io::Result<()>, ReadError> {
        let (mut at, mut reply) = (range.start, Vec::new());
        for (bytes, hole) in runs(self.export.image.map(), range.clone(), HOLE_MIN_BYTES, usize::MAX) {
            let end = at + u64::from(bytes);
            if hole {
                Chunk::Hole(at, bytes).write(request.cookie, end == range.end, &mut reply);
                at = end;
            }
            while at < end {
                let to = end.min(at + PIECE_BYTES as u64);
                Chunk::Data(at, (to - at) as u32).write(request.cookie, to == range.end, &mut reply);
                self.export.read(at..to, &mut reply).await?;
                at = to;
                if let Err(e) = self.write(&reply).await {
                    return Ok(Err(e));
                }
                reply.clear();
            }
        }
        Ok(self.write(&reply).await)
    }

    /// Prefetches blocks into the caches, as many at the same time as there is room for. Only a hint: errors are left
    /// to later reads.
    async fn cache(&self, request: &Request, range: Range<u64>) -> io::Result<()> {
        let mut fetches = JoinSet::new();
        for block in self.export.image.map().blocks(range, CACHE_BLOCKS_MAX) {
            let image = Arc::clone(&self.export.image);
            let room = self.export.hints.room(image.map().row(block)).await;
            fetches.spawn(async move {
                let _room = room;
                image.prefetch(block).await
            });
            while fetches.try_join_next().is_some() {}
        }
        while fetches.join_next().await.is_some() {}
        self.done(request).await
    }

    async fn status(&self, request: &Request, range: Range<u64>) -> io::Result<()> {
        let most = if request.flags & command::FLAG_REQ_ONE != 0 { 1 } else { RUNS_MAX };
        let runs = runs(self.export.image.map(), range, 1, most);
        let mut reply = Vec::new();
        Chunk::Status(&runs).write(request.cookie, true, &mut reply);
        self.write(&reply).await
    }
}
