//! Reading an object: after opening, one round trip for its first bytes and length, then the rest.

use bytes::{Bytes, BytesMut};

use super::Inner;
use super::failure::{EOF, Failure, NO_SUCH_FILE};
use super::pending::Pending;
use super::session::Session;
use super::wire::{Attributes, CLOSE, FLAG_READ, FSTAT, LSTAT, OPEN, READ, Reply, Request, STAT};

/// Limit of the allocation for a length that the server claims, before the bytes have arrived.
const TRUST_BYTES: u64 = 64 << 10;
/// Maximum number of reads in flight for one object.
const READS: usize = 32;

/// An open file; closed on drop without waiting for the reply.
struct Open<'a> {
    session: &'a Session,
    handle: Bytes,
    chunk_bytes: usize,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.session.forget(Request::new(CLOSE).bytes(&self.handle));
    }
}

impl Inner {
    /// Reads a file of at most `max_bytes`.
    pub async fn download(&self, path: &str, max_bytes: u64) -> Result<Bytes, Failure> {
        let lease = self.pool.lease().await?;
        let open = Request::new(OPEN).bytes(path.as_bytes()).number(FLAG_READ).number(0);
        let handle = lease.send(open).await?.handle().await?;
        let mut file = Open { session: &lease, handle, chunk_bytes: lease.read_chunk_bytes() };
        let about = lease.send(Request::new(FSTAT).bytes(&file.handle)).await?;
        let first = file.read(0, max_bytes.max(1)).await?;
        let length = length(about.attributes().await?, max_bytes)?;
        let mut body = BytesMut::with_capacity(length.min(TRUST_BYTES) as usize);
        take(&mut body, first, length).await?;
        while (body.len() as u64) < length {
            file.read_on(&mut body, length).await?;
        }
        Ok(body.freeze())
    }

    /// The failure to open `path`, left as "no such file" only where that is certain: servers return the same for a
    /// dangling link, and where the base is not a directory.
    pub async fn explained(&self, path: &str, failure: Failure) -> Result<Failure, Failure> {
        if !failure.is_status(NO_SUCH_FILE) {
            return Ok(failure);
        }
        let lease = self.pool.lease().await?;
        let link = lease.send(Request::new(LSTAT).bytes(path.as_bytes())).await?;
        let base = lease.send(Request::new(STAT).bytes(self.base.as_bytes())).await?;
        if link.attributes().await.is_ok() {
            return Ok(Failure::Nonsense(
                "something is there that cannot be opened, a link that leads nowhere?".into(),
            ));
        }
        if base.attributes().await.is_ok_and(|base| base.mode.is_some() && !base.is_directory()) {
            return Ok(Failure::Nonsense("the path of this mirror is not a directory".into()));
        }
        Ok(failure)
    }

    /// The attributes of the file at `path`; `None` if there is none.
    pub async fn stat(&self, path: &str) -> Result<Option<Attributes>, Failure> {
        let lease = self.pool.lease().await?;
        match lease.ask(Request::new(STAT).bytes(path.as_bytes())).await? {
            Reply::Attributes(attributes) => Ok(Some(attributes)),
            Reply::Status { code: NO_SUCH_FILE, .. } => Ok(None),
            other => Err(Failure::unexpected(other)),
        }
    }
}

impl Open<'_> {
    /// Requests up to `wanted` bytes from `offset` on, at most one packet.
    async fn read(&self, offset: u64, wanted: u64) -> Result<Pending, Failure> {
        let bytes = wanted.min(self.chunk_bytes as u64) as usize;
        let read = Request::new(READ).bytes(&self.handle).long(offset).number(bytes as u32);
        self.session.send_for(read, bytes).await
    }

    /// Reads on from the end of `body`, with many reads in flight. After a short reply, later reads request no more
    /// than it had.
    async fn read_on(&mut self, body: &mut BytesMut, length: u64) -> Result<(), Failure> {
        let mut reads = Vec::new();
        let mut offset = body.len() as u64;
        while offset < length && reads.len() < READS {
            let wanted = (length - offset).min(self.chunk_bytes as u64);
            reads.push((wanted, self.read(offset, wanted).await?));
            offset += wanted;
        }
        for (wanted, read) in reads {
            let got = take(body, read, length).await?;
            if got < wanted {
                self.chunk_bytes = (got as usize).max(4096);
                break;
            }
        }
        Ok(())
    }
}

/// Appends the reply's bytes to `body` and returns their number.
async fn take(body: &mut BytesMut, read: Pending, length: u64) -> Result<u64, Failure> {
    let ended = || Failure::Nonsense(format!("the file ends at byte {} of {length}", body.len()));
    let data = match read.data().await {
        Err(failure) if failure.is_status(EOF) && length == 0 => Bytes::new(),
        Err(failure) if failure.is_status(EOF) => return Err(ended()),
        data => data?,
    };
    if (body.len() + data.len()) as u64 > length {
        return Err(Failure::Nonsense(format!("the server sent more than the {length} bytes of the file")));
    }
    if data.is_empty() && length > 0 {
        return Err(ended());
    }
    body.extend_from_slice(&data);
    Ok(data.len() as u64)
}

fn length(about: Attributes, max_bytes: u64) -> Result<u64, Failure> {
    if !about.is_file() {
        return Err(Failure::Nonsense("not a regular file".into()));
    }
    match about.bytes {
        Some(length) if length > max_bytes => {
            Err(Failure::TooLong(format!("{length} bytes, expected at most {max_bytes}")))
        }
        Some(length) => Ok(length),
        None => Err(Failure::Nonsense("the server does not say how long the file is".into())),
    }
}
