//! The ranking of all mirrors of an image: which is asked first, which next, and which is probed.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Pace;
use super::health::{Fault, MirrorHealth, State};
use crate::repo::{Fetched, ReadError};

/// Mirrors that take at most this many times as long as the best share the work with it.
const NEAR: f64 = 1.2;
/// So do mirrors that take at most this many seconds longer.
const NEAR_S: f64 = 0.002;
/// Limit of concurrent probes.
const PROBES_MAX: usize = 2;
/// After each probe there is a pause of this many times its duration, to take little of a slow link.
const PROBE_REST: u32 = 10;

/// Health of all mirrors.
#[derive(Debug)]
pub struct Ranking {
    names: Vec<Arc<str>>,
    health: Mutex<Vec<MirrorHealth>>,
    quiet_until: Mutex<Option<Instant>>,
    turn: AtomicUsize,
    pace: Pace,
}

impl Ranking {
    /// Mirrors not measured yet, in the order of the first requests.
    pub fn new(names: Vec<Arc<str>>, pace: Pace) -> Arc<Self> {
        let health = Mutex::new(vec![MirrorHealth::default(); names.len()]);
        Arc::new(Self { names, health, quiet_until: Mutex::default(), turn: AtomicUsize::new(0), pace })
    }

    /// The mirrors' names.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// The time limits for judging them.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Health of each mirror.
    pub fn health(&self) -> Vec<MirrorHealth> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<MirrorHealth>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All mirrors: those that work, fastest first; then those that are behind; then those in quarantine, in the order
    /// of its end.
    pub fn ranking(&self, now: Instant) -> Vec<usize> {
        rank(&self.lock(), now)
    }

    /// The order of requests for a block at `now`: the ranking, except that mirrors about as fast as the fastest take
    /// turns, the one with the fewest requests in flight first.
    pub fn order(&self, now: Instant) -> Vec<usize> {
        let health = self.lock();
        let mut order = rank(&health, now);
        let usual_s = |at: usize| match health[at].state(now) {
            State::Good => health[at].usual().map(|usual| usual.as_secs_f64()),
            _ => None,
        };
        if let Some(best_s) = order.first().and_then(|&first| usual_s(first)) {
            let limit_s = (best_s * NEAR).max(best_s + NEAR_S);
            let near = order.iter().take_while(|&&at| usual_s(at).is_some_and(|s| s <= limit_s)).count();
            order[..near].sort_unstable();
            order[..near].rotate_left(self.turn.fetch_add(1, Relaxed) % near);
            order[..near].sort_by_key(|&at| health[at].in_flight);
        }
        order
    }

    /// How long to wait for a mirror before hedging.
    pub fn hedge_after(&self, at: usize) -> Duration {
        let usual = self.lock()[at].usual().unwrap_or_default();
        self.pace.hedge_after.max(usual * 3).min(self.pace.attempt_max)
    }

    /// Registers a demand request to a mirror.
    pub fn depart(self: &Arc<Self>, at: usize) -> RequestGuard {
        let started = Instant::now();
        self.lock()[at].departed(started);
        RequestGuard { ranking: Arc::clone(self), at, started, probe: false, told: false }
    }

    /// Selects a mirror other than `asked` to probe now, if one is due and not too many probes are running.
    pub fn probe(self: &Arc<Self>, asked: usize) -> Option<RequestGuard> {
        let now = Instant::now();
        if self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now < until) {
            return None;
        }
        let mut health = self.lock();
        if health.iter().filter(|s| s.probing).count() >= PROBES_MAX {
            return None;
        }
        let due = (0..health.len()).filter(|&at| at != asked && health[at].is_due(now, &self.pace));
        // The one that has waited longest for a request.
        let due = due.min_by_key(|&at| health[at].asked())?;
        health[due].departed(now);
        health[due].probing = true;
        Some(RequestGuard { ranking: Arc::clone(self), at: due, started: now, probe: true, told: false })
    }
}

fn rank(health: &[MirrorHealth], now: Instant) -> Vec<usize> {
    let mut order: Vec<usize> = (0..health.len()).collect();
    order.sort_by_key(|&at| {
        let state = health[at].state(now);
        let until = health[at].until().filter(|_| state == State::Quarantined);
        (state, until, health[at].usual().unwrap_or(Duration::MAX))
    });
    order
}

/// A request in flight to a mirror. Dropping it without [`RequestGuard::tell`] counts as overtaken.
#[derive(Debug)]
pub struct RequestGuard {
    ranking: Arc<Ranking>,
    at: usize,
    started: Instant,
    probe: bool,
    told: bool,
}

impl RequestGuard {
    /// Index of the mirror.
    pub fn mirror(&self) -> usize {
        self.at
    }

    /// Records the outcome.
    pub fn tell(mut self, outcome: &Result<Fetched, ReadError>) {
        self.told = true;
        let now = Instant::now();
        let standing = &mut self.ranking.lock()[self.at];
        match outcome {
            Ok(fetched) => {
                let bytes = fetched.file.as_ref().map_or(fetched.block.len(), |file| file.len());
                standing.arrived(self.started, now, bytes as u64);
            }
            Err(e) => standing.failed(self.started, now, Fault::from(e), e.to_string(), &self.ranking.pace),
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let standing = &mut self.ranking.lock()[self.at];
        standing.in_flight = standing.in_flight.saturating_sub(1);
        if self.probe {
            standing.probing = false;
            let rest = (self.started.elapsed() * PROBE_REST).min(self.ranking.pace.probe_after);
            let mut quiet_until = self.ranking.quiet_until.lock().unwrap_or_else(PoisonError::into_inner);
            *quiet_until = Some(Instant::now() + rest);
        }
        if !self.told {
            standing.was_overtaken(self.started, Instant::now());
        }
    }
}
