//! The image as a read-only export of the Network Block Device protocol, for those who read it without FUSE: QEMU,
//! qemu-img, nbd-client.
//!
//! [`wire`] has the words of the protocol, [`handshake`] and [`transmission`] speak them over one connection, and
//! [`listen`] takes connections. There is no authentication or encryption: any process that reaches the socket may read.

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
use crate::format::index::BlockRow;
use crate::format::name::Name;
use crate::repo::ReadError;

/// The most that one request reads, in bytes: the most that QEMU asks for.
pub const READ_MAX_BYTES: u32 = 32 << 20;

/// What is served.
#[derive(Debug)]
pub struct Export {
    /// What it is called; the empty name means it, too.
    pub name: Name,
    /// A few words about it.
    pub description: String,
    /// Its bytes.
    pub image: Arc<Image>,
    /// Who reads ahead, if anybody: see [`Export::read_ahead`].
    pub prefetch: Option<Prefetch>,
    /// How it goes.
    pub status: Arc<Status>,
    /// Who hears of failed reads.
    pub observer: Arc<dyn Observer>,
    /// The room for blocks on their way into the caches because clients said that they will want them.
    pub hints: Hints,
}

/// Bytes of blocks and of their files that all clients together may have fetched in advance at the same time.
const HINTS_MAX_BYTES: u32 = 8 << 20;

/// Gives room to blocks that clients have fetched in advance.
#[derive(Debug, Clone)]
pub struct Hints(Arc<Semaphore>);

impl Default for Hints {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(HINTS_MAX_BYTES as usize)))
    }
}

impl Hints {
    /// Waits until there is room for a block and its file; it is given back when this is dropped. `None` never happens.
    async fn room(&self, row: &BlockRow) -> Option<OwnedSemaphorePermit> {
        let bytes = row.bytes.saturating_add(row.zlib_bytes).min(HINTS_MAX_BYTES);
        Arc::clone(&self.0).acquire_many_owned(bytes).await.ok()
    }
}

impl Export {
    /// Has up to `bytes` fetched ahead of those who read on; with 0 nothing.
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

    /// Appends the bytes of `range` to `out`: at most as many as an image is asked for at once.
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
