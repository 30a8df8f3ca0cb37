//! Blocks that a mirror should have and has not right, made once more from the image at hand.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::image::Image;
use super::spool::{Spool, Spooled};
use super::workers;
use crate::error::Error;
use crate::format::block::{Compressor, digests};
use crate::format::digest::BlockId;
use crate::format::index::BlockRow;
use crate::split::Rule;

/// How blocks are made once more.
#[derive(Debug, Clone)]
pub struct Remake {
    /// The image; it can be read again.
    pub image: PathBuf,
    /// How it is cut.
    pub rule: Rule,
    /// The level of compression.
    pub level: u8,
    /// Cores to use.
    pub jobs: usize,
    /// Where the blocks wait.
    pub spool: Arc<Spool>,
}

impl Remake {
    /// Reads the image once more; `deliver` gets those of its blocks that are among `rows`.
    ///
    /// # Errors
    /// Whatever stops the reading, or the user.
    pub fn run(&self, rows: &[BlockRow], cancel: &AtomicBool, deliver: &(dyn Fn(Spooled) + Sync)) -> Result<(), Error> {
        let image = Image::open(&self.image)?;
        let wanted: HashSet<BlockId> = rows.iter().map(|row| row.id).collect();
        let sealer = || Compressor::new(self.level);
        workers::work_on_blocks(&image, self.rule, self.jobs, cancel, &|_| {}, sealer, |sealer, cut| {
            let (id, sha256) = digests(&cut.bytes);
            if !wanted.contains(&id) {
                return Ok(());
            }
            let sealed = sealer.seal(&cut.bytes, id, sha256).map_err(|e| Error::local(e.to_string()))?;
            let row = *sealed.row();
            let goes_on = || !cancel.load(Ordering::Relaxed);
            deliver(self.spool.put(row, sealed.into_file(), &goes_on).ok_or_else(Error::interrupted)?);
            Ok(())
        })?;
        Ok(())
    }
}
