//! Listing: several directories at once, several requests for each.
//!
//! Names from the server are validated like any other path, links are not followed, and everything is bounded.

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::Inner;
use super::failure::{EOF, Failure, NO_SUCH_FILE};
use super::session::Session;
use super::wire::{CLOSE, Named, OPENDIR, READDIR, REMOVE, Reply, Request};
use crate::format::layout::RepoPath;
use crate::store::Entry;

/// Maximum number of names listed: more than any mirror has.
const NAMES_MAX: usize = 8_388_608;
const DIRECTORIES_AT_ONCE: usize = 32;
/// Requests in flight for one directory; OpenSSH answers each with a hundred names.
const READS: usize = 8;
/// Assumed size of a reply, in bytes, for the limit of bytes in flight.
const ANSWER_BYTES: usize = 24 << 10;
const REMOVALS: usize = 256;

/// An open directory; closed on drop without waiting for the reply.
struct Open<'a> {
    session: &'a Session,
    handle: Bytes,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.session.forget(Request::new(CLOSE).bytes(&self.handle));
    }
}

impl Inner {
    /// Every object below `prefix`.
    pub async fn walk(&self, prefix: &str) -> Result<Vec<Entry>, Failure> {
        let mut entries = Vec::new();
        let mut names_seen = 0;
        let mut pending = vec![prefix.to_owned()];
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < DIRECTORIES_AT_ONCE
                && let Some(directory) = pending.pop()
            {
                running.push(async move {
                    let names = self.names(&self.full_path(&directory)).await;
                    names.map(|names| (directory, names))
                });
            }
            let Some(listed) = running.next().await else { return Ok(entries) };
            let (directory, names) = listed?;
            names_seen += names.len();
            if names_seen > NAMES_MAX {
                return Err(too_many());
            }
            for named in names {
                let Some(path) = below(&directory, &named.name) else { continue };
                if named.attributes.is_directory() {
                    pending.push(path.to_string());
                } else if named.attributes.is_file() {
                    let unsized_file = || Failure::Nonsense("the server lists files without their sizes".into());
                    entries.push(Entry { path, bytes: named.attributes.bytes.ok_or_else(unsized_file)? });
                }
            }
        }
    }

    /// The names in one directory; none if it does not exist.
    async fn names(&self, directory: &str) -> Result<Vec<Named>, Failure> {
        let lease = self.pool.lease().await?;
        let opened = lease.send(Request::new(OPENDIR).bytes(directory.as_bytes())).await?.handle().await;
        let handle = match opened {
            Err(failure) if failure.is_status(NO_SUCH_FILE) => return Ok(Vec::new()),
            opened => opened?,
        };
        let open = Open { session: &lease, handle };
        let mut names = Vec::new();
        let mut ended = false;
        let mut reads = 1;
        while !ended {
            let mut under_way = Vec::new();
            for _ in 0..reads {
                let read = Request::new(READDIR).bytes(&open.handle);
                under_way.push(open.session.send_for(read, ANSWER_BYTES).await?);
            }
            for read in under_way {
                match read.names().await {
                    Ok(some) if some.is_empty() => {
                        return Err(Failure::Nonsense("the server lists a directory without an end".into()));
                    }
                    Ok(some) => names.extend(some),
                    Err(failure) if failure.is_status(EOF) => ended = true,
                    // Some servers open a missing directory and report it only here.
                    Err(failure) if failure.is_status(NO_SUCH_FILE) && names.is_empty() => ended = true,
                    Err(failure) => return Err(failure),
                }
            }
            if names.len() > NAMES_MAX {
                return Err(too_many());
            }
            reads = READS;
        }
        Ok(names)
    }

    /// Removes every file in the directory of temporaries.
    pub async fn remove_temporaries(&self, directory: &str) -> Result<(), Failure> {
        let names = self.names(directory).await?;
        let lease = self.pool.lease().await?;
        for names in names.chunks(REMOVALS) {
            let mut removals = Vec::new();
            for named in names.iter().filter(|named| named.attributes.is_file() && is_one_name(&named.name)) {
                let path = [directory.as_bytes(), b"/", &named.name].concat();
                removals.push(lease.send(Request::new(REMOVE).bytes(&path)).await?);
            }
            for removal in removals {
                match removal.reply().await? {
                    Reply::Status { code: 0 | NO_SUCH_FILE, .. } => {}
                    other => return Err(Failure::unexpected(other)),
                }
            }
        }
        Ok(())
    }
}

/// The path of a name in a directory, if it is valid in a repository.
fn below(directory: &str, name: &[u8]) -> Option<RepoPath> {
    let name = std::str::from_utf8(name).ok().filter(|name| !name.contains('/'))?;
    let slash = if directory.is_empty() { "" } else { "/" };
    format!("{directory}{slash}{name}").parse().ok()
}

fn is_one_name(name: &[u8]) -> bool {
    !name.is_empty() && !name.contains(&b'/') && name != b"." && name != b".."
}

fn too_many() -> Failure {
    Failure::Nonsense(format!("the server lists more than {NAMES_MAX} names"))
}
