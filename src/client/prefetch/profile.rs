//! Prefetches the blocks of a profile, in its order.
//!
//! Each block waits for a slot of the [`Scheduler`], so demand reads go first. The prefetch stays within what the
//! caches hold: a block must still be cached when it is read. Blocks already on disk stay there.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::record::FirstReads;
use super::scheduler::{Scheduler, Slot};
use crate::client::image::Image;
use crate::client::source::disk_cache::DiskStore;

/// Blocks marked as about to be prefetched: a read of one is merely early, and does not hold back prefetch.
const LISTED: usize = 64;
/// A fetched block counts as skipped once the reader is this many places beyond it.
const PASSED_OVER: usize = 64;
/// How often the caches are checked while there is no room.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Where prefetched blocks stay until they are read.
#[derive(Debug, Clone)]
pub enum Room {
    /// In RAM: the most bytes of decoded blocks ahead of the reader.
    Ram(u64),
    /// On disk: the most bytes of compressed files in total.
    Disk(Arc<DiskStore>, u64),
}

/// The prefetch of one profile.
#[derive(Debug)]
pub struct ProfilePrefetch {
    image: Arc<Image>,
    scheduler: Arc<Scheduler>,
    reads: Arc<FirstReads>,
    room: Room,
    counts: Arc<ProfileCounts>,
}

/// Progress of a profile prefetch.
#[derive(Debug, Default)]
pub struct ProfileCounts {
    /// Number of blocks in the profile.
    pub profile: AtomicU64,
    /// Blocks not yet fetched or found in a cache.
    pub left: AtomicU64,
    /// Number of blocks fetched.
    pub blocks: AtomicU64,
    /// Their compressed size in bytes.
    pub bytes: AtomicU64,
}

/// A fetched block that has not been read: its place in the profile, its number in the index, and its size in bytes.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    place: usize,
    block: u32,
    bytes: u64,
}

/// How far the reader has got in the profile.
#[derive(Debug)]
struct Reader {
    /// Place in the profile, by block.
    places: HashMap<u32, usize>,
    waiting: VecDeque<Waiting>,
    known: usize,
    /// Place of the block that was read last.
    reached: usize,
    /// Compressed size of the blocks fetched, in bytes.
    disk_bytes: u64,
}

impl Reader {
    fn of(blocks: &[u32]) -> Self {
        let places = blocks.iter().enumerate().map(|(place, &block)| (block, place)).collect();
        Self { places, waiting: VecDeque::new(), known: 0, reached: 0, disk_bytes: 0 }
    }
}

impl ProfilePrefetch {
    /// Prefetches for `image` through `scheduler`; `reads` has the reads of `image`.
    pub fn new(image: Arc<Image>, scheduler: Arc<Scheduler>, reads: Arc<FirstReads>, room: Room) -> Self {
        Self { image, scheduler, reads, room, counts: Arc::default() }
    }

    /// Uses `counts` for the progress.
    pub fn counting(self, counts: Arc<ProfileCounts>) -> Self {
        Self { counts, ..self }
    }

    /// The progress.
    pub fn counts(&self) -> Arc<ProfileCounts> {
        Arc::clone(&self.counts)
    }

    /// Prefetches `blocks`; returns when the last one is in flight or there is no more room.
    pub async fn run(&self, blocks: &[u32]) {
        let row = |block: u32| self.image.map().row(block);
        self.counts.profile.store(blocks.len() as u64, Relaxed);
        self.counts.left.store(blocks.len() as u64, Relaxed);
        self.image.follow(blocks);
        blocks.iter().take(LISTED).for_each(|&block| self.scheduler.list(row(block)));
        self.scheduler.begin();
        let mut reader = Reader::of(blocks);
        for (place, &block) in blocks.iter().enumerate() {
            if let Some(&next) = blocks.get(place + LISTED) {
                self.scheduler.list(row(next));
            }
            if !self.is_here(block).await && self.wait_for_room(block, &mut reader).await {
                let turn = self.scheduler.turn(row(block)).await;
                if !self.image.holds(block) {
                    reader.waiting.push_back(Waiting { place, block, bytes: row(block).bytes.into() });
                    self.fetch(block, turn);
                    continue;
                }
            }
            self.scheduler.unlist(row(block));
            self.counts.left.fetch_sub(1, Relaxed);
        }
    }

    fn fetch(&self, block: u32, turn: Slot) {
        let (image, scheduler, counts) =
            (Arc::clone(&self.image), Arc::clone(&self.scheduler), Arc::clone(&self.counts));
        tokio::spawn(async move {
            let row = *image.map().row(block);
            if image.prefetch(block).await {
                turn.came();
                counts.blocks.fetch_add(1, Relaxed);
                counts.bytes.fetch_add(row.zlib_bytes.into(), Relaxed);
            }
            scheduler.unlist(&row);
            counts.left.fetch_sub(1, Relaxed);
        });
    }

    async fn is_here(&self, block: u32) -> bool {
        if self.image.holds(block) {
            return true;
        }
        let Room::Disk(store, _) = &self.room else { return false };
        let (store, row) = (Arc::clone(store), *self.image.map().row(block));
        tokio::task::spawn_blocking(move || store.holds(&row)).await.unwrap_or(false)
    }

    /// Waits until there is room for the block; false if there will be none, or the block is no longer needed.
    async fn wait_for_room(&self, block: u32, reader: &mut Reader) -> bool {
        let row = self.image.map().row(block);
        match &self.room {
            Room::Disk(_, limit) => {
                reader.disk_bytes += u64::from(row.zlib_bytes);
                reader.disk_bytes <= *limit
            }
            Room::Ram(limit) => loop {
                let ahead = self.bytes_ahead(reader);
                if self.reads.has(block) || self.image.holds(block) {
                    return false;
                }
                if ahead == 0 || ahead + u64::from(row.bytes) <= *limit {
                    return true;
                }
                let _ = tokio::time::timeout(LOOK_AGAIN, self.reads.news()).await;
            },
        }
    }

    /// Bytes of blocks that were fetched and not yet read.
    fn bytes_ahead(&self, reader: &mut Reader) -> u64 {
        let noted = self.reads.after(reader.known);
        reader.known += noted.len();
        if let Some(&place) = noted.iter().rev().find_map(|noted| reader.places.get(&noted.block)) {
            reader.reached = place;
        }
        let reached = reader.reached;
        let waits = |w: &Waiting| {
            let row = self.image.map().row(w.block);
            let is_here = self.image.holds(w.block) || self.scheduler.lists(row);
            w.place + PASSED_OVER >= reached && !self.reads.has(w.block) && is_here
        };
        reader.waiting.retain(waits);
        reader.waiting.iter().map(|w| w.bytes).sum()
    }
}
