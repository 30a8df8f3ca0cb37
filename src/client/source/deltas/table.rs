//! Which blocks have a delta, and the bases of those in flight.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::format::block::BlockRow;
use crate::format::digest::BlockId;
use crate::format::update::{DeltaRow, Update};
use crate::repo::BaseBlocks;
use crate::system::bridge;

/// The updates to the version that is read, and where their bases may be.
#[derive(Debug)]
pub struct DeltaTable {
    /// The updates, from the newest older version first. They arrive while the image is read.
    updates: OnceLock<Vec<Update>>,
    places: Vec<Arc<dyn BaseBlocks>>,
    /// Deltas that are being fetched, with their bases. Several mirrors may be asked for one.
    prepared: Mutex<HashMap<BlockId, Weak<Patch>>>,
}

/// A delta whose bases are at hand.
#[derive(Debug)]
pub struct Usable {
    delta: DeltaRow,
    bases: Vec<BlockRow>,
}

impl Usable {
    /// Size of its bases together, in bytes.
    pub fn prefix_bytes(&self) -> u64 {
        self.bases.iter().map(|base| u64::from(base.bytes)).sum()
    }
}

/// A delta whose bases are in memory.
#[derive(Debug)]
pub struct Patch {
    /// The delta's row in its update.
    pub delta: DeltaRow,
    /// The bytes that the encoder saw before the block.
    pub prefix: Arc<[u8]>,
}

impl DeltaTable {
    /// A table without updates yet; bases are looked for in `places`, in this order.
    pub fn new(places: Vec<Arc<dyn BaseBlocks>>) -> Arc<Self> {
        Arc::new(Self { updates: OnceLock::new(), places, prepared: Mutex::default() })
    }

    /// Sets the updates, once.
    pub fn set(&self, updates: Vec<Update>) {
        let _ = self.updates.set(updates);
    }

    fn updates(&self) -> &[Update] {
        self.updates.get().map_or(&[], |updates| updates)
    }

    /// The deltas of a block, each with its update.
    fn deltas(&self, id: &BlockId) -> impl Iterator<Item = (&Update, &DeltaRow)> {
        self.updates().iter().filter_map(|update| Some((update, update.delta(id)?)))
    }

    fn prepared_map(&self) -> MutexGuard<'_, HashMap<BlockId, Weak<Patch>>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The blocks that deltas of these updates need.
    pub fn bases(&self) -> impl Iterator<Item = &BlockRow> {
        self.updates().iter().flat_map(Update::bases)
    }

    /// Whether any update has a delta of this block.
    pub fn lists(&self, id: &BlockId) -> bool {
        self.deltas(id).next().is_some()
    }

    /// The first delta of a block whose bases are all at hand.
    pub async fn usable(self: &Arc<Self>, id: BlockId) -> Option<Usable> {
        let table = Arc::clone(self);
        let find = move || {
            let is_held = |row: &BlockRow| table.places.iter().any(|place| place.holds(row));
            let (update, delta) = table.deltas(&id).find(|(update, delta)| update.bases_of(delta).all(is_held))?;
            Some(Usable { delta: *delta, bases: update.bases_of(delta).copied().collect() })
        };
        bridge::blocking(find).await
    }

    /// Reads the bases of a delta; `None` if one is not at hand any more.
    pub async fn prepare(self: &Arc<Self>, usable: Usable) -> Option<Arc<Patch>> {
        let (table, id) = (Arc::clone(self), usable.delta.id);
        let patch = bridge::blocking(move || {
            let mut prefix = Vec::new();
            for base in &usable.bases {
                let block = table.places.iter().find_map(|place| place.load(base))?;
                prefix.extend_from_slice(&block);
            }
            Some(Arc::new(Patch { delta: usable.delta, prefix: prefix.into() }))
        });
        let patch = patch.await?;
        let mut prepared = self.prepared_map();
        prepared.retain(|_, patch| patch.strong_count() > 0);
        prepared.insert(id, Arc::downgrade(&patch));
        Some(patch)
    }

    /// The delta of this block that was prepared, while it is in flight.
    pub fn prepared(&self, id: &BlockId) -> Option<Arc<Patch>> {
        self.prepared_map().get(id)?.upgrade()
    }
}
