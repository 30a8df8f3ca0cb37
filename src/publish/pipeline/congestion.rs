//! Which mirrors hold up the others while the spool is full, and when they are left behind for that.
//!
//! A full spool makes everybody wait. Where some mirrors are the reason and others are not, the time is charged to each of
//! them; once that is as long as mirrors wait for each other at all (`--patience`), their blocks are dropped and the others go
//! on at their pace.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::upload::Load;

/// Waiting that was noticed longer ago than this had another reason.
const NOTICE_WITHIN: Duration = Duration::from_secs(1);

/// The loads of all mirrors that blocks are sent to.
pub struct Congestion {
    loads: Vec<Load>,
    min_mirrors: usize,
    patience: Duration,
    charged: Mutex<Charged>,
}

struct Charged {
    noticed: Instant,
    /// How long the others have waited for each.
    waited: Vec<Duration>,
}

impl Congestion {
    /// Of `loads`, `min_mirrors` are kept whatever their pace.
    pub fn new(loads: Vec<Load>, min_mirrors: usize, patience: Duration) -> Self {
        let charged = Charged { noticed: Instant::now(), waited: vec![Duration::ZERO; loads.len()] };
        Self { loads, min_mirrors: min_mirrors.max(1), patience, charged: Mutex::new(charged) }
    }

    /// To be called again and again while the spool is full.
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

    /// The mirrors that hold more than half of what the slowest one holds, if others hold less: without them there would be
    /// room. As many as are needed stay.
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
