//! Fetches the blocks of a profile before they are read, in its order.
//!
//! Each waits at the [`Scheduler`] for its turn, so whoever reads goes first. It stays as little ahead as the caches are
//! large: what is fetched must still be there when it is read. What is on the disk already is left there.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::record::FirstReads;
use super::scheduler::{Scheduler, Slot};
use crate::client::image::Image;
use crate::client::source::disk_cache::DiskStore;

/// Blocks whose turn comes soon: a read of one of them is only early, and does not hold the others up.
const LISTED: usize = 64;
/// A block that was not read when so many later ones were is not waited for.
const PASSED_OVER: usize = 64;
/// How often the caches are looked at while there is no room.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Where fetched blocks are kept until they are read.
#[derive(Debug, Clone)]
pub enum Room {
    /// In RAM: at most so many bytes of them ahead of the reader.
    Ram(u64),
    /// On the disk: at most so many bytes of files altogether.
    Disk(Arc<DiskStore>, u64),
}

/// The blocks of a profile on their way.
#[derive(Debug)]
pub struct ProfilePrefetch {
    image: Arc<Image>,
    scheduler: Arc<Scheduler>,
    reads: Arc<FirstReads>,
    room: Room,
    counts: Arc<ProfileCounts>,
}

/// How far it has got.
#[derive(Debug, Default)]
pub struct ProfileCounts {
    /// Blocks of the profile.
    pub profile: AtomicU64,
    /// Those that are still to be fetched, or to be found where they need not be.
    pub left: AtomicU64,
    /// Blocks fetched.
    pub blocks: AtomicU64,
    /// The bytes of their files.
    pub bytes: AtomicU64,
}

/// A fetched block that was not read yet: its place in the profile, in the index, and its bytes.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    place: usize,
    block: u32,
    bytes: u64,
}

/// What is known of the reader.
#[derive(Debug)]
struct Reader {
    /// The place in the profile of each of its blocks.
    places: HashMap<u32, usize>,
    waiting: VecDeque<Waiting>,
    known: usize,
    /// The place of the block that was read last.
    reached: usize,
    /// Bytes of files that were fetched.
    disk_bytes: u64,
}

impl Reader {
    fn of(blocks: &[u32]) -> Self {
        let places = blocks.iter().enumerate().map(|(place, &block)| (block, place)).collect();
        Self { places, waiting: VecDeque::new(), known: 0, reached: 0, disk_bytes: 0 }
    }
}

impl ProfilePrefetch {
    /// Fetches for `image`, whose reads `reads` knows of, through `scheduler`.
    pub fn new(image: Arc<Image>, scheduler: Arc<Scheduler>, reads: Arc<FirstReads>, room: Room) -> Self {
        Self { image, scheduler, reads, room, counts: Arc::default() }
    }

    /// The same, which counts in `counts`.
    pub fn counting(self, counts: Arc<ProfileCounts>) -> Self {
        Self { counts, ..self }
    }

    /// How far it gets.
    pub fn counts(&self) -> Arc<ProfileCounts> {
        Arc::clone(&self.counts)
    }

    /// Fetches `blocks`, and returns when the last one is on its way or there is no more room.
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

    /// Waits until the block can be kept; false where that cannot be hoped for.
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

    /// Bytes of blocks that were fetched and are still to be read.
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
