//! Writing an object: a temporary file with all writes in flight at once, then a rename.
//!
//! Three round trips: open; write and close; rename. The rename is sent only after every write is confirmed, so no
//! partial object ever appears. On failure the temporary file is removed.

use bytes::Bytes;

use super::Inner;
use super::failure::{FAILURE, Failure, NO_SUCH_FILE};
use super::pending::Pending;
use super::pool::Lease;
use super::session::Session;
use super::wire::{self, CLOSE, FLAGS_NEW, FSETSTAT, FSTAT, OPEN, REMOVE, RENAME, Reply, Request, STAT, WRITE};
use crate::store::Put;
use crate::store::arrival::all_arrived;

/// The replacing rename that OpenSSH and many other servers have besides the plain one.
const POSIX_RENAME: &str = "posix-rename@openssh.com";
const FSYNC: &str = "fsync@openssh.com";
/// Mode of new files, whatever the server's umask: a web server, running as another user, must read them.
const MODE: u32 = 0o644;
const STATVFS: &str = "statvfs@openssh.com";

/// A temporary file with an object's bytes; removed on drop unless renamed into place.
pub struct Temporary<'a> {
    lease: Lease<'a>,
    path: String,
    handle: Option<Bytes>,
    placed: bool,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.lease.forget(Request::new(CLOSE).bytes(&handle));
        }
        if !self.placed {
            self.lease.forget(Request::new(REMOVE).bytes(self.path.as_bytes()));
        }
    }
}

impl Inner {
    /// Writes `bytes` to a temporary file and creates the directory of `target` in parallel.
    pub async fn upload(&self, target: &str, bytes: &Bytes, durable: bool) -> Result<Temporary<'_>, Failure> {
        let lease = self.pool.lease().await?;
        let path = self.temporary();
        let open = || Request::new(OPEN).bytes(path.as_bytes()).number(FLAGS_NEW).mode(MODE);
        let before = lease.send(Request::new(STAT).bytes(target.as_bytes())).await?;
        let mut asked = self.directories.ask(&lease, parent(&path)).await?;
        asked.extend(self.directories.ask(&lease, parent(target)).await?);
        let opened = lease.send(open()).await?;
        self.directories.note(&lease, asked).await?;
        let opened = match opened.handle().await {
            Err(failure) if failure.is_status(NO_SUCH_FILE) => {
                self.directories.make(&lease, parent(&path)).await?;
                lease.send(open()).await?.handle().await
            }
            opened => opened,
        };
        let handle = match opened {
            Ok(handle) => handle,
            Err(failure) => return Err(self.full(&lease, bytes.len(), failure).await),
        };
        // A replacement keeps the mode of the old file.
        let mode = before.attributes().await.ok().and_then(|before| before.mode).map_or(MODE, |mode| mode & 0o777);
        let mut temporary = Temporary { lease, path, handle: Some(handle), placed: false };
        match write(&mut temporary, bytes, durable, mode).await {
            Ok(()) => Ok(temporary),
            Err(failure) => Err(self.full(&temporary.lease, bytes.len(), failure).await),
        }
    }

    /// Renames a file to a path that must not exist.
    pub async fn place_new(&self, mut temporary: Temporary<'_>, target: &str) -> Result<Put, Failure> {
        let rename = || Request::new(RENAME).bytes(temporary.path.as_bytes()).bytes(target.as_bytes());
        let mut renamed = temporary.lease.send(rename()).await?.done().await;
        if renamed.as_ref().is_err_and(|failure| failure.is_status(NO_SUCH_FILE)) {
            self.directories.make(&temporary.lease, parent(target)).await?;
            renamed = temporary.lease.send(rename()).await?.done().await;
        }
        match renamed {
            Ok(()) => {
                temporary.placed = true;
                Ok(Put::Created)
            }
            // SFTP version 3 has no status for "exists".
            Err(Failure::Status { .. }) if is_there(&temporary.lease, target).await? => Ok(Put::Exists),
            Err(failure) => Err(failure),
        }
    }

    /// Renames a file to its path, replacing an existing file.
    pub async fn place(&self, mut temporary: Temporary<'_>, target: &str) -> Result<(), Failure> {
        let posix = temporary.lease.has(POSIX_RENAME);
        let begun = || if posix { Request::extended(POSIX_RENAME) } else { Request::new(RENAME) };
        let rename = || begun().bytes(temporary.path.as_bytes()).bytes(target.as_bytes());
        let mut renamed = temporary.lease.send(rename()).await?.done().await;
        if renamed.as_ref().is_err_and(|failure| failure.is_status(NO_SUCH_FILE)) {
            self.directories.make(&temporary.lease, parent(target)).await?;
            renamed = temporary.lease.send(rename()).await?.done().await;
        }
        match renamed {
            Ok(()) => temporary.placed = true,
            Err(Failure::Status { .. }) if !posix && is_there(&temporary.lease, target).await? => {
                let why = "the server cannot replace a file in one step: its rename refuses, and it has no \
                           posix-rename@openssh.com";
                return Err(Failure::Nonsense(why.into()));
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// The same failure, or "no space" if the file does not fit: most servers return only a general failure.
    async fn full(&self, session: &Session, bytes: usize, failure: Failure) -> Failure {
        if !failure.is_status(FAILURE) || !session.has(STATVFS) {
            return failure;
        }
        match free_bytes(session, &self.base).await {
            Some(free) if free < bytes as u64 => {
                Failure::Full(format!("no room on the server: {free} bytes are free, {bytes} are needed"))
            }
            _ => failure,
        }
    }
}

async fn write(temporary: &mut Temporary<'_>, bytes: &Bytes, durable: bool, mode: u32) -> Result<(), Failure> {
    let (session, Some(handle)) = (&temporary.lease, temporary.handle.clone()) else { return Ok(()) };
    let chunk_bytes = session.write_chunk_bytes();
    let mut pending = Vec::new();
    for (number, chunk) in bytes.chunks(chunk_bytes).enumerate() {
        let offset = (number * chunk_bytes) as u64;
        pending.push(session.send(Request::new(WRITE).bytes(&handle).long(offset).bytes(chunk)).await?);
    }
    if durable && session.has(FSYNC) {
        pending.push(session.send(Request::extended(FSYNC).bytes(&handle)).await?);
    }
    let allowed = session.send(Request::new(FSETSTAT).bytes(&handle).mode(mode)).await?;
    let about = session.send(Request::new(FSTAT).bytes(&handle)).await?;
    pending.push(session.send(Request::new(CLOSE).bytes(&handle)).await?);
    temporary.handle = None;
    for pending in pending {
        pending.done().await?;
    }
    // A server's refusal to set the mode is ignored.
    allowed.reply().await?;
    check_size(session, &temporary.path, about, bytes.len() as u64).await
}

/// Checks that the file is complete. The size was requested together with the last writes and costs no extra round
/// trip; if the reply does not match, the size is requested again, as it may precede the writes.
async fn check_size(session: &Session, path: &str, about: Pending, bytes: u64) -> Result<(), Failure> {
    if about.attributes().await.is_ok_and(|about| about.bytes == Some(bytes)) {
        return Ok(());
    }
    let about = session.send(Request::new(STAT).bytes(path.as_bytes())).await?.attributes().await?;
    match about.bytes {
        Some(there) => all_arrived(there, bytes).map_err(Failure::Lost),
        None => Err(Failure::Nonsense("the server does not say how long a file is".into())),
    }
}

async fn is_there(session: &Session, path: &str) -> Result<bool, Failure> {
    match session.ask(Request::new(STAT).bytes(path.as_bytes())).await? {
        Reply::Attributes(_) => Ok(true),
        Reply::Status { .. } => Ok(false),
        other => Err(Failure::unexpected(other)),
    }
}

/// Free space for a user who is not root, in bytes.
async fn free_bytes(session: &Session, base: &str) -> Option<u64> {
    let Reply::Extended(mut answer) = session.ask(Request::extended(STATVFS).bytes(base.as_bytes())).await.ok()? else {
        return None;
    };
    let mut next = || wire::long(&mut answer).ok();
    let (_block, unit, _blocks, _free, available) = (next()?, next()?, next()?, next()?, next()?);
    let (all_inodes, _free_inodes, inodes) = (next()?, next()?, next()?);
    // Some file systems do not count inodes and report 0 of 0.
    if inodes == 0 && all_inodes > 0 { Some(0) } else { unit.checked_mul(available) }
}

/// The parent directory of a path.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(parent, _)| parent)
}
