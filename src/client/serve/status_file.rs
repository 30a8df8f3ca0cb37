//! The hidden status file of a mount: its content is the status at the time it was opened.
//!
//! It is not listed, so it is not found by accident, and it is read-only.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::client::status::Status;

/// File name in the directory of the mount.
pub const STATUS_FILE: &str = ".hfl-status";
/// The most handles open at the same time.
const OPEN_MAX: usize = 64;

/// The content of each open handle.
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

    /// Takes the status for a new handle, and returns that; `None` if too many are open.
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

    /// The content of a handle.
    pub fn text(&self, handle: u64) -> Option<Arc<str>> {
        self.lock().get(&handle).cloned()
    }

    /// Closes a handle.
    pub fn close(&self, handle: u64) {
        self.lock().remove(&handle);
    }
}
