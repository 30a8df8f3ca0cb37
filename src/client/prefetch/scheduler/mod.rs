//! Whoever waits for a block goes first: lets fetches that nobody waits for start only as far as they do not get in the
//! way.
//!
//! All share one link, so what is fetched in advance slows down what is wanted now, by as much as it has under way.
//! While nobody waits, twice what the link holds at a time is under way, which keeps it busy and no more; how much that
//! is follows from what fetches have carried and how quick the quickest was. As soon as somebody wants a block that is
//! not about to come anyway, nothing starts that would make him wait noticeably longer: a quarter of the former where
//! the mirror is far away, one block and none beside him where it is near.

mod bandwidth;
mod demand;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::format::digest::Sha256;
use crate::format::index::BlockRow;

pub use bandwidth::Bandwidth;
pub use demand::DemandSource;

/// How long the link is kept free after somebody wanted a block, in times that he waited for it.
const HOLD: u32 = 4;
/// The least and the most of that: whoever reads now and then must not find the link full each time.
const HOLD_MIN: Duration = Duration::from_millis(500);
const HOLD_MAX: Duration = Duration::from_secs(1);
/// How long nothing at all is started after that, in the same times, and the longest.
const LULL: f64 = 1.5;
const LULL_MAX: Duration = Duration::from_millis(250);
/// How much of what the link holds may be under way beside somebody who waits, and while nobody does.
const SHARE_WANTED: f64 = 0.5;
const SHARE_CALM: f64 = 2.0;
/// Fetches at the same time before anything is known of the link.
const JOBS_AT_FIRST: u32 = 8;
/// How long to wait for a change that nobody tells of.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Where fetches in advance wait for their turn, one dispatcher's.
#[derive(Debug)]
pub struct Scheduler {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    link: Bandwidth,
    /// Blocks that somebody waits for and that were not about to come anyway.
    wanted: HashMap<u64, Sha256>,
    /// Tells these apart.
    wants: u64,
    /// Nothing starts before this.
    lull_until: Option<Instant>,
    /// The link is kept free until then.
    hold_until: Option<Instant>,
    /// Fetches in advance that are under way, and the bytes of their files.
    running: u32,
    running_bytes: u64,
    /// Blocks that are about to be fetched in advance, or are.
    listed: HashSet<Sha256>,
    jobs: u32,
    rate: Option<u64>,
    /// When the limit of bandwidth lets the next fetch start.
    next: Option<Instant>,
}

impl State {
    /// Whether a fetch of `bytes` may start at `now`.
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
            // The first few tell too little of the link to hold others back.
            _ => self.running < JOBS_AT_FIRST && self.link.fetches() < JOBS_AT_FIRST.into(),
        }
    }

    /// When it may be worth to look again if nothing happens.
    fn look_again(&self, now: Instant) -> Instant {
        let times = [self.lull_until, self.hold_until, self.next];
        let next = times.into_iter().flatten().filter(|&at| at > now).min();
        next.unwrap_or(now + LOOK_AGAIN).min(now + LOOK_AGAIN)
    }
}

impl Scheduler {
    /// A scheduler for at most `jobs` fetches in advance at a time.
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

    /// Changes how many fetches in advance may be under way, and how many bytes they may carry in a second.
    pub fn limit(&self, jobs: u32, bytes_per_s: Option<u64>) {
        let mut state = self.lock();
        (state.jobs, state.rate) = (jobs.max(1), bytes_per_s);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A profile begins: what was wanted before nobody knew of it says nothing of what goes beside it.
    pub fn begin(&self) {
        let mut state = self.lock();
        (state.lull_until, state.hold_until) = (None, None);
    }

    /// The block will be fetched in advance soon: whoever wants it now is only early.
    pub fn list(&self, row: &BlockRow) {
        let mut state = self.lock();
        state.wanted.retain(|_, wanted| *wanted != row.sha256);
        state.listed.insert(row.sha256);
    }

    /// It was fetched, or will not be.
    pub fn unlist(&self, row: &BlockRow) {
        self.lock().listed.remove(&row.sha256);
    }

    /// Whether the block is about to be fetched in advance, or is.
    pub fn lists(&self, row: &BlockRow) -> bool {
        self.lock().listed.contains(&row.sha256)
    }

    /// Fetches in advance that are under way, and the bytes of their files.
    pub fn running(&self) -> (u32, u64) {
        let state = self.lock();
        (state.running, state.running_bytes)
    }

    /// Returns when the block may be fetched in advance. For one caller at a time, so that the order is kept.
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

    /// Somebody waits for the block from now on.
    pub fn wanted(self: &Arc<Self>, row: &BlockRow) -> Demand {
        let mut state = self.lock();
        state.wants += 1;
        let number = state.wants;
        state.wanted.insert(number, row.sha256);
        let (started, delivered) = (Instant::now(), state.link.delivered());
        Demand { scheduler: Arc::clone(self), number, bytes: row.zlib_bytes.into(), started, delivered, came: false }
    }
}

/// A fetch in advance that is under way, until this is dropped.
#[derive(Debug)]
pub struct Slot {
    scheduler: Arc<Scheduler>,
    bytes: u64,
    started: Instant,
    delivered: u64,
    came: bool,
}

impl Slot {
    /// The block is there.
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

/// Somebody waits for a block, until this is dropped.
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
    /// The block is there.
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
