//! Gives demand reads priority over prefetch.
//!
//! All fetches share one link, so prefetch delays demand reads by as much as it has in flight. Without demand reads,
//! twice the bandwidth-delay product is in flight, which keeps the link busy and no more; the product is estimated from
//! completed fetches. While a demand read is in flight, and shortly after it, prefetch is cut to a quarter of that
//! budget. On a link to a near mirror, a quarter is less than a block: prefetch then stops during demand reads, and
//! goes on one block at a time after them. A read of a block that is about to be prefetched anyway does not count.

mod bandwidth;
mod demand;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::format::block::BlockRow;
use crate::format::digest::Sha256;

pub use bandwidth::Bandwidth;
pub use demand::DemandSource;

/// How long prefetch stays reduced after a demand read, as a multiple of the time the read waited.
const HOLD: u32 = 4;
/// The limits of that time: a reader that reads now and then must not find the link full each time.
const HOLD_MIN: Duration = Duration::from_millis(500);
const HOLD_MAX: Duration = Duration::from_secs(1);
/// How long no prefetch starts after a demand read, as a multiple of the same time, and the limit of that.
const LULL: f64 = 1.5;
const LULL_MAX: Duration = Duration::from_millis(250);
/// Prefetch in flight, as a multiple of the bandwidth-delay product: with and without demand reads.
const SHARE_WANTED: f64 = 0.5;
const SHARE_CALM: f64 = 2.0;
/// Concurrent fetches before the link has been measured.
const JOBS_AT_FIRST: u32 = 8;
/// The longest sleep without a notification of a change.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Grants slots to prefetches; for one dispatcher.
#[derive(Debug)]
pub struct Scheduler {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    link: Bandwidth,
    /// Demand reads in flight for blocks that are not about to be prefetched, by number.
    wanted: HashMap<u64, Sha256>,
    /// Number of the last demand read.
    wants: u64,
    /// No prefetch starts before this.
    lull_until: Option<Instant>,
    /// Prefetch is reduced until then.
    hold_until: Option<Instant>,
    /// Prefetches in flight, and their compressed size in bytes.
    running: u32,
    running_bytes: u64,
    /// Blocks that are about to be prefetched, or in flight.
    listed: HashSet<Sha256>,
    jobs: u32,
    rate: Option<u64>,
    /// When the bandwidth limit allows the next fetch.
    next: Option<Instant>,
}

impl State {
    /// Whether a prefetch of `bytes` may start at `now`.
    fn may_start(&self, bytes: u64, now: Instant) -> bool {
        let past = |until: Option<Instant>| until.is_none_or(|until| until <= now);
        if self.running >= self.jobs || !past(self.next) {
            return false;
        }
        let fits = |share: f64, held: f64| (self.running_bytes + bytes) as f64 <= share * held;
        match self.link.holds_bytes() {
            held if !self.wanted.is_empty() || !past(self.hold_until) => {
                let alone = self.wanted.is_empty() && self.running == 0 && past(self.lull_until);
                alone || held.is_some_and(|held| fits(SHARE_WANTED, held))
            }
            Some(held) if self.running < 2 || fits(SHARE_CALM, held) => true,
            // The first few fetches measure too little of the link to hold others back.
            _ => self.running < JOBS_AT_FIRST && self.link.fetches() < JOBS_AT_FIRST.into(),
        }
    }

    /// When to check again if nothing happens.
    fn look_again(&self, now: Instant) -> Instant {
        let times = [self.lull_until, self.hold_until, self.next];
        let next = times.into_iter().flatten().filter(|&at| at > now).min();
        next.unwrap_or(now + LOOK_AGAIN).min(now + LOOK_AGAIN)
    }
}

impl Scheduler {
    /// Creates a scheduler for at most `jobs` concurrent prefetches.
    pub fn new(jobs: u32) -> Arc<Self> {
        let (listed, link, wanted) = Default::default();
        let state = State {
            link,
            wanted,
            wants: 0,
            lull_until: None,
            hold_until: None,
            running: 0,
            running_bytes: 0,
            listed,
            jobs,
            rate: None,
            next: None,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new() })
    }

    /// Sets the limits of prefetch: concurrent fetches, and bytes per second.
    pub fn limit(&self, jobs: u32, bytes_per_s: Option<u64>) {
        let mut state = self.lock();
        (state.jobs, state.rate) = (jobs.max(1), bytes_per_s);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A profile begins: demand reads from before it was known no longer hold back prefetch.
    pub fn begin(&self) {
        let mut state = self.lock();
        (state.lull_until, state.hold_until) = (None, None);
    }

    /// Marks a block as about to be prefetched: a demand read of it is merely early.
    pub fn list(&self, row: &BlockRow) {
        let mut state = self.lock();
        state.wanted.retain(|_, wanted| *wanted != row.sha256);
        state.listed.insert(row.sha256);
    }

    /// Removes the mark: the block was fetched, or will not be.
    pub fn unlist(&self, row: &BlockRow) {
        self.lock().listed.remove(&row.sha256);
    }

    /// Whether the block is about to be prefetched, or in flight.
    pub fn lists(&self, row: &BlockRow) -> bool {
        self.lock().listed.contains(&row.sha256)
    }

    /// Prefetches in flight, and their compressed size in bytes.
    pub fn running(&self) -> (u32, u64) {
        let state = self.lock();
        (state.running, state.running_bytes)
    }

    /// Waits until the block may be prefetched. For one caller at a time, to preserve the order.
    pub async fn turn(self: &Arc<Self>, row: &BlockRow) -> Slot {
        let bytes = u64::from(row.zlib_bytes);
        loop {
            let look_again = {
                let (mut state, now) = (self.lock(), Instant::now());
                if state.may_start(bytes, now) {
                    state.running += 1;
                    state.running_bytes += bytes;
                    state.next =
                        state.rate.map(|rate| now + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64));
                    let delivered = state.link.delivered();
                    return Slot { scheduler: Arc::clone(self), bytes, started: now, delivered, came: false };
                }
                state.look_again(now)
            };
            let _ = tokio::time::timeout_at(look_again.into(), self.changed.notified()).await;
        }
    }

    /// Registers a demand read of the block.
    pub fn wanted(self: &Arc<Self>, row: &BlockRow) -> Demand {
        let mut state = self.lock();
        state.wants += 1;
        let number = state.wants;
        state.wanted.insert(number, row.sha256);
        let (started, delivered) = (Instant::now(), state.link.delivered());
        Demand { scheduler: Arc::clone(self), number, bytes: row.zlib_bytes.into(), started, delivered, came: false }
    }
}

/// A prefetch in flight, until dropped.
#[derive(Debug)]
pub struct Slot {
    scheduler: Arc<Scheduler>,
    bytes: u64,
    started: Instant,
    delivered: u64,
    came: bool,
}

impl Slot {
    /// Reports success: the fetch counts as a measurement of the link.
    pub fn came(mut self) {
        self.came = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.scheduler.lock();
        state.running -= 1;
        state.running_bytes -= self.bytes;
        if self.came {
            state.link.carried(self.bytes, self.delivered, self.started.elapsed());
        }
        drop(state);
        self.scheduler.changed.notify_one();
    }
}

/// A demand read in flight, until dropped.
#[derive(Debug)]
pub struct Demand {
    scheduler: Arc<Scheduler>,
    number: u64,
    bytes: u64,
    started: Instant,
    delivered: u64,
    came: bool,
}

impl Demand {
    /// Reports success: the fetch counts as a measurement of the link.
    pub fn came(mut self) {
        self.came = true;
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        let now = Instant::now();
        let waited = now - self.started;
        let mut state = self.scheduler.lock();
        if state.wanted.remove(&self.number).is_some() {
            state.lull_until = Some(now + waited.mul_f64(LULL).min(LULL_MAX));
            state.hold_until = Some(now + waited.saturating_mul(HOLD).clamp(HOLD_MIN, HOLD_MAX));
        }
        if self.came {
            state.link.carried(self.bytes, self.delivered, waited);
        }
        drop(state);
        self.scheduler.changed.notify_one();
    }
}
