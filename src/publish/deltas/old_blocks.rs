//! The blocks of an older version that deltas may be based on: those that the new version has no more.
//!
//! They are read from the user's copy of the old image, else from the mirrors, into a temporary file.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{StreamExt as _, stream};

use super::chooser::Chooser;
use super::features::Sampling;
use super::image_blocks::ImageBlocks;
use crate::disk::input::Input;
use crate::error::Error;
use crate::format::block::BlockRow;
use crate::format::index::Index;
use crate::progress::{Event, Watch};
use crate::publish::base::source_order::SourceOrder;
use crate::publish::pad::{Pad, Placed};
use crate::publish::places::Places;
use crate::repo;
use crate::store::Store;
use crate::system::bridge;

/// Blocks read at the same time.
const READS_AT_ONCE: usize = 16;

/// Where old blocks are read from.
#[derive(Clone)]
pub struct OldSources {
    /// The user's copy of the old image, if there is one.
    pub image: Option<Arc<Input>>,
    /// The mirrors, in the order in which they are tried.
    pub stores: Arc<[Arc<dyn Store>]>,
}

/// Old blocks at hand, and what new ones have in common with them.
#[derive(Debug)]
pub struct OldBlocks {
    /// Their rows.
    pub rows: Vec<BlockRow>,
    /// Finds the blocks that a new one has most in common with.
    pub chooser: Chooser,
    /// How features are sampled.
    pub sampling: Sampling,
    places: Vec<Placed>,
    pad: Arc<Pad>,
}

impl OldBlocks {
    /// Gathers the blocks of `old` for which `is_candidate` returns true. Blocks that cannot be read are left out.
    ///
    /// # Errors
    /// The temporary file cannot be written; interrupted by the user.
    pub async fn gather(
        old: &Index,
        is_candidate: impl Fn(&BlockRow) -> bool,
        sources: &OldSources,
        directory: &Path,
        watch: &Watch,
    ) -> Result<Self, Error> {
        let rows: Vec<BlockRow> = old.blocks().iter().filter(|row| is_candidate(row)).copied().collect();
        let bytes = rows.iter().map(|row| u64::from(row.bytes)).sum();
        let sampling = Sampling::for_bytes(bytes);
        let pad = Arc::new(Pad::new(directory).map_err(|e| Error::io(directory, &e))?);
        let local = sources.image.clone().map(|image| {
            let places = Arc::new(Places::new(old.blocks().len(), old.extents()));
            Arc::new(ImageBlocks::new(image, old.blocks(), places, &is_candidate))
        });
        let unreliable = Arc::new(SourceOrder::default());
        let reads = rows.iter().copied().enumerate().map(|(number, row)| {
            let (local, stores, pad) = (local.clone(), Arc::clone(&sources.stores), Arc::clone(&pad));
            let unreliable = Arc::clone(&unreliable);
            async move {
                let bytes = read(number, &row, local, &stores, &unreliable).await;
                bridge::blocking(move || bytes.map(|bytes| take(&bytes, sampling, &pad)).transpose()).await
            }
        });
        let mut reads = stream::iter(reads).buffered(READS_AT_ONCE).zip(stream::iter(&rows));
        let mut gathered =
            Self { rows: Vec::new(), chooser: Chooser::default(), sampling, places: Vec::new(), pad: Arc::clone(&pad) };
        while let Some((taken, row)) = reads.next().await {
            if watch.cancel.load(Ordering::Relaxed) {
                return Err(Error::interrupted());
            }
            watch.progress.event(Event::Read { bytes: row.bytes.into() });
            if let Some((placed, features)) = taken.map_err(|e| Error::io(directory, &e))? {
                gathered.rows.push(*row);
                gathered.places.push(placed);
                gathered.chooser.add(&features);
            }
        }
        gathered.chooser.finish();
        Ok(gathered)
    }

    /// Appends the bytes of a block to `out`.
    ///
    /// # Errors
    /// A failed read of the temporary file.
    pub fn read(&self, block: u32, out: &mut Vec<u8>) -> io::Result<()> {
        self.pad.read(self.places[block as usize], out)
    }
}

/// The bytes of a block from the first source that has it right.
async fn read(
    number: usize,
    row: &BlockRow,
    local: Option<Arc<ImageBlocks>>,
    stores: &[Arc<dyn Store>],
    unreliable: &SourceOrder,
) -> Option<Vec<u8>> {
    if let Some(local) = local
        && let Some(bytes) = bridge::blocking(move || local.read(number)).await
    {
        return Some(bytes);
    }
    for store in unreliable.order(stores.iter().map(|store| &**store)) {
        if let Ok((block, _)) = repo::block(store, row).await {
            return Some(block.to_vec());
        }
        unreliable.note(store);
    }
    None
}

fn take(bytes: &[u8], sampling: Sampling, pad: &Pad) -> io::Result<(Placed, Vec<u32>)> {
    Ok((pad.add(bytes)?, sampling.features(bytes)))
}
