//! Writing an object: a temporary file, all of its bytes in flight at once, then its place.
//!
//! Three round trips each: open; write and close together; rename. The rename is sent only when every write was
//! confirmed, so nothing partial ever stands in an object's place. What fails on the way takes its temporary file along.

use bytes::Bytes;

use super::Inner;
use super::failure::{FAILURE, Failure, NO_SUCH_FILE};
use super::pending::Pending;
use super::pool::Lease;
use super::session::Session;
use super::wire::{self, CLOSE, FLAGS_NEW, FSETSTAT, FSTAT, OPEN, REMOVE, RENAME, Reply, Request, STAT, WRITE};
use crate::store::Put;
use crate::store::arrival::all_arrived;

/// The replacement that OpenSSH's servers, and many others, have beside the plain rename.
const POSIX_RENAME: &str = "posix-rename@openssh.com";
const FSYNC: &str = "fsync@openssh.com";
/// What a web server, which is another user, may do with a file whatever the server's umask is: read it.
const MODE: u32 = 0o644;
const STATVFS: &str = "statvfs@openssh.com";

/// A file that holds an object's bytes and is not yet in its place.
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
    /// Writes `bytes` to a temporary file and meanwhile makes the directory of `target`.
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
        // What replaces a file is as open as that was.
        let mode = before.attributes().await.ok().and_then(|before| before.mode).map_or(MODE, |mode| mode & 0o777);
        let mut temporary = Temporary { lease, path, handle: Some(handle), placed: false };
        match write(&mut temporary, bytes, durable, mode).await {
            Ok(()) => Ok(temporary),
            Err(failure) => Err(self.full(&temporary.lease, bytes.len(), failure).await),
        }
    }

    /// Moves a file to where nothing is yet.
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
            // Servers of version 3 have no word for "exists".
            Err(Failure::Status { .. }) if is_there(&temporary.lease, target).await? => Ok(Put::Exists),
            Err(failure) => Err(failure),
        }
    }

    /// Moves a file to its place, whatever is there.
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

    /// The same failure, or that there is no room: most servers only say that it failed.
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
    // A server that does not let modes be set has its reasons.
    allowed.reply().await?;
    check_size(session, &temporary.path, about, bytes.len() as u64).await
}

/// Whether all of a file is there. The question about its size went out with its last bytes and costs no time; a server that
/// answers it before it has written them is asked again.
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

/// What a user who is not root may still write.
async fn free_bytes(session: &Session, base: &str) -> Option<u64> {
    let Reply::Extended(mut answer) = session.ask(Request::extended(STATVFS).bytes(base.as_bytes())).await.ok()? else {
        return None;
    };
    let mut next = || wire::long(&mut answer).ok();
    let (_block, unit, _blocks, _free, available) = (next()?, next()?, next()?, next()?, next()?);
    let (all_inodes, _free_inodes, inodes) = (next()?, next()?, next()?);
    // Some file systems count no inodes and say 0 of 0.
    if inodes == 0 && all_inodes > 0 { Some(0) } else { unit.checked_mul(available) }
}

/// The directory that a path lies in.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(parent, _)| parent)
}
