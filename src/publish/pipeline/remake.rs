//! Rebuilds blocks that a mirror lacks or holds damaged, from the image itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::image::Reading;
use super::spool::{Spool, Spooled};
use super::workers;
use crate::disk::input::Input;
use crate::error::Error;
use crate::format::block::{BlockRow, Codec, Compressor};
use crate::format::digest::{BlockId, Sha256};

/// Parameters for rebuilding blocks.
#[derive(Clone)]
pub struct Remake {
    /// The image; it must be readable again.
    pub image: Arc<Input>,
    /// How it is read and cut.
    pub reading: Reading,
    /// Codec of the blocks.
    pub codec: Codec,
    /// Number of worker threads.
    pub jobs: usize,
    /// Where the blocks wait for upload.
    pub spool: Arc<Spool>,
}

impl Remake {
    /// Reads the image again; `deliver` receives those of its blocks that are among `rows`.
    ///
    /// # Errors
    /// A failed read or compression; the user cancelled.
    pub fn run(&self, rows: &[BlockRow], cancel: &AtomicBool, deliver: &(dyn Fn(Spooled) + Sync)) -> Result<(), Error> {
        let wanted: HashMap<Sha256, BlockId> = rows.iter().map(|row| (row.sha256, row.id)).collect();
        let sealer = || Compressor::new(self.codec);
        workers::work_on_blocks(&self.image, self.reading, self.jobs, cancel, &|_| {}, sealer, |sealer, cut| {
            let sha256 = Sha256::of(&cut.bytes);
            let Some(&id) = wanted.get(&sha256) else { return Ok(()) };
            let sealed = sealer.seal(&cut.bytes, id, sha256).map_err(|e| Error::local(e.to_string()))?;
            let row = *sealed.row();
            let goes_on = || !cancel.load(Ordering::Relaxed);
            deliver(self.spool.put(row, sealed.into_file(), &goes_on).ok_or_else(Error::interrupted)?);
            Ok(())
        })?;
        Ok(())
    }
}
