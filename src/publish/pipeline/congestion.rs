//! Detects the mirrors that hold up the others while the spool is full, and leaves them behind.
//!
//! A full spool stalls every mirror. If only some mirrors cause this, the stall time is charged to each of them. Once
//! a mirror's total reaches the limit for waiting on a mirror (`--patience`), its blocks are dropped and the others
//! go on at their pace.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::upload::Load;

/// A gap between two notices longer than this has another cause and is not charged.
const NOTICE_WITHIN: Duration = Duration::from_secs(1);

/// The backlogs of all mirrors that are uploaded to.
pub struct Congestion {
    loads: Vec<Load>,
    min_mirrors: usize,
    patience: Duration,
    charged: Mutex<Charged>,
}

struct Charged {
    noticed: Instant,
    /// Stall time charged to each mirror.
    waited: Vec<Duration>,
}

impl Congestion {
    /// At least `min_mirrors` of `loads` are kept, however slow.
    pub fn new(loads: Vec<Load>, min_mirrors: usize, patience: Duration) -> Self {
        let charged = Charged { noticed: Instant::now(), waited: vec![Duration::ZERO; loads.len()] };
        Self { loads, min_mirrors: min_mirrors.max(1), patience, charged: Mutex::new(charged) }
    }

    /// Must be called repeatedly while the spool is full.
    pub fn notice(&self) {
        let mut charged = self.charged.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = charged.noticed.elapsed();
        charged.noticed = Instant::now();
        if passed >= NOTICE_WITHIN {
            return;
        }
        for slow in self.slow() {
            charged.waited[slow] += passed;
            if charged.waited[slow] >= self.patience {
                self.loads[slow].leave_behind();
            }
        }
    }

    /// The mirrors whose backlog is more than half the largest one, if others have less: without them there would be
    /// room. The minimum number of mirrors is kept.
    fn slow(&self) -> Vec<usize> {
        let up = self.loads.iter().enumerate().filter(|(_, load)| load.is_up());
        let mut waiting: Vec<(u64, usize)> = up.map(|(i, load)| (load.bytes(), i)).collect();
        waiting.sort_unstable_by(|a, b| b.cmp(a));
        let most = waiting.first().map_or(0, |(bytes, _)| *bytes);
        let slow = waiting.iter().take_while(|(bytes, _)| *bytes > most / 2).count();
        if slow == waiting.len() {
            return Vec::new();
        }
        waiting.iter().take(slow.min(waiting.len().saturating_sub(self.min_mirrors))).map(|(_, i)| *i).collect()
    }
}
