//! Blocks of old versions that a restore comes across and that deltas need: saved in a temporary file, since what is
//! updated in place is overwritten.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::error::Error;
use crate::format::block::{Block, BlockRow};
use crate::format::digest::Sha256;
use crate::publish::pad::{Pad, Placed};
use crate::repo::BaseBlocks;

/// The most that is saved, in bytes.
const SAVED_MAX_BYTES: u64 = 1 << 30;

/// The saved blocks.
#[derive(Debug)]
pub struct SavedBases {
    pad: Pad,
    /// Those that deltas need, and where they are once they were found.
    wanted: OnceLock<Mutex<HashMap<Sha256, Option<Placed>>>>,
    bytes: AtomicU64,
}

impl SavedBases {
    /// Nothing yet; the temporary file is in `directory`.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn new(directory: &Path) -> Result<Self, Error> {
        let pad = Pad::new(directory).map_err(|e| Error::io(directory, &e))?;
        Ok(Self { pad, wanted: OnceLock::new(), bytes: AtomicU64::new(0) })
    }

    /// States, once, which blocks are to be saved.
    pub fn want<'a>(&self, rows: impl Iterator<Item = &'a BlockRow>) {
        let _ = self.wanted.set(Mutex::new(rows.map(|row| (row.sha256, None)).collect()));
    }

    /// Whether nothing was saved.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.load(Relaxed) == 0
    }

    /// Saves a block that has this digest, if it is wanted. A full disk only means fewer deltas.
    pub(super) fn take(&self, sha256: &Sha256, bytes: &[u8]) {
        let Some(wanted) = self.wanted.get() else { return };
        let is_wanted =
            || wanted.lock().unwrap_or_else(PoisonError::into_inner).get(sha256).is_some_and(Option::is_none);
        if !is_wanted() || self.bytes.fetch_add(bytes.len() as u64, Relaxed) + bytes.len() as u64 > SAVED_MAX_BYTES {
            return;
        }
        if let Ok(placed) = self.pad.add(bytes) {
            wanted.lock().unwrap_or_else(PoisonError::into_inner).insert(*sha256, Some(placed));
        }
    }

    fn place(&self, row: &BlockRow) -> Option<Placed> {
        *self.wanted.get()?.lock().unwrap_or_else(PoisonError::into_inner).get(&row.sha256)?
    }
}

impl BaseBlocks for SavedBases {
    fn holds(&self, row: &BlockRow) -> bool {
        self.place(row).is_some()
    }

    fn load(&self, row: &BlockRow) -> Option<Block> {
        let mut bytes = Vec::new();
        self.pad.read(self.place(row)?, &mut bytes).ok()?;
        let (sha256, block) = Block::of(bytes);
        (sha256 == row.sha256).then_some(block)
    }
}
