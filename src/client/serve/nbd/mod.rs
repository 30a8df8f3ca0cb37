//! The image as a read-only export of the Network Block Device protocol, for clients without FUSE: QEMU, qemu-img,
//! nbd-client.
//!
//! [`wire`] encodes and decodes the protocol, [`handshake`] and [`transmission`] speak it on one connection, and
//! [`listen`] accepts connections. There is no authentication or encryption: any process that reaches the socket may
//! read.

pub mod handshake;
pub mod listen;
mod runs;
pub mod transmission;
pub mod wire;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::session::{PREFETCH_JOBS, PREFETCH_SLOW};
use crate::client::image::Image;
use crate::client::notice::Observer;
use crate::client::prefetch::Prefetch;
use crate::client::status::{Status, Waiting};
use crate::format::block::BlockRow;
use crate::format::name::Name;
use crate::repo::ReadError;

/// The largest read of one request, in bytes: the largest that QEMU requests.
pub const READ_MAX_BYTES: u32 = 32 << 20;

/// An exported image.
#[derive(Debug)]
pub struct Export {
    /// Export name; the empty name selects it too.
    pub name: Name,
    /// Description for clients.
    pub description: String,
    /// The image as readable bytes.
    pub image: Arc<Image>,
    /// The readahead, if any: see [`Export::read_ahead`].
    pub prefetch: Option<Prefetch>,
    /// Counters and state.
    pub status: Arc<Status>,
    /// Is notified of failed reads.
    pub observer: Arc<dyn Observer>,
    /// The memory for prefetches requested by clients.
    pub hints: Hints,
}

/// Limit of the prefetches of all clients together: decoded and compressed size, in bytes.
const HINTS_MAX_BYTES: u32 = 8 << 20;

/// Limits the memory for prefetches requested by clients.
#[derive(Debug, Clone)]
pub struct Hints(Arc<Semaphore>);

impl Default for Hints {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(HINTS_MAX_BYTES as usize)))
    }
}

impl Hints {
    /// Waits for room for a block and its compressed file, released on drop. `None` never happens.
    async fn room(&self, row: &BlockRow) -> Option<OwnedSemaphorePermit> {
        let bytes = row.bytes.saturating_add(row.zlib_bytes).min(HINTS_MAX_BYTES);
        Arc::clone(&self.0).acquire_many_owned(bytes).await.ok()
    }
}

impl Export {
    /// Enables readahead of up to `bytes` per stream; 0 disables it.
    pub fn read_ahead(&mut self, bytes: u64, runtime: &Handle) {
        self.prefetch = (bytes > 0)
            .then(|| Prefetch::new(Arc::clone(&self.image), runtime.clone(), PREFETCH_JOBS, PREFETCH_SLOW, bytes));
    }

    fn size(&self) -> u64 {
        self.image.map().size()
    }

    fn is_called(&self, name: &[u8]) -> bool {
        name.is_empty() || name == self.name.as_str().as_bytes()
    }

    /// Appends the bytes of `range` to `out`; at most one read of an image.
    async fn read(&self, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), ReadError> {
        let bytes = range.end - range.start;
        let data = match self.image.cached(range.clone()) {
            Some(data) => data,
            None => {
                let _waiting = Waiting::new(&self.status.reads);
                self.image.read(range).await?
            }
        };
        data.with(|bytes| out.extend_from_slice(bytes));
        self.status.reads.bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }
}
