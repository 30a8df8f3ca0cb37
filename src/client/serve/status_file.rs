//! The hidden file of a mount: what is read from it is the status at the moment at which it was opened.
//!
//! It is in no listing, so nobody meets it by accident; nobody can write to it.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::client::status::Status;

/// Its name in the directory of the mount.
pub const STATUS_FILE: &str = ".hfl-status";
/// How often it can be open at the same time.
const OPEN_MAX: usize = 64;

/// The texts of those who have it open.
#[derive(Debug)]
pub(super) struct Reports {
    status: Arc<Status>,
    open: Mutex<HashMap<u64, Arc<str>>>,
    handles: AtomicU64,
}

impl Reports {
    pub fn new(status: Arc<Status>) -> Self {
        Self { status, open: Mutex::default(), handles: AtomicU64::new(1) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<str>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the status for a new reader, and returns its handle; none where there are too many.
    pub fn open(&self) -> Option<u64> {
        let text = format!("{:#}\n", self.status.to_json());
        let mut open = self.lock();
        if open.len() >= OPEN_MAX {
            return None;
        }
        let handle = self.handles.fetch_add(1, Relaxed);
        open.insert(handle, text.into());
        Some(handle)
    }

    /// The text of a reader.
    pub fn text(&self, handle: u64) -> Option<Arc<str>> {
        self.lock().get(&handle).cloned()
    }

    /// A reader has closed it.
    pub fn close(&self, handle: u64) {
        self.lock().remove(&handle);
    }
}
