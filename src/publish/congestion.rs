//! Which mirror holds up the others while the spool is full, and when it is left behind for that.
//!
//! A full spool makes everybody wait. Where one mirror alone is the reason, the time is charged to it; once that is as long
//! as mirrors wait for each other at all (`--patience`), its blocks are dropped and the others go on at their pace.

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
        let Some(slowest) = self.slowest().filter(|_| passed < NOTICE_WITHIN) else { return };
        charged.waited[slowest] += passed;
        if charged.waited[slowest] >= self.patience {
            self.loads[slowest].leave_behind();
        }
    }

    /// The mirror that holds most of what waits, if no other holds even half as much: without it there would be room.
    fn slowest(&self) -> Option<usize> {
        let up = self.loads.iter().enumerate().filter(|(_, load)| load.is_up());
        let mut waiting: Vec<(u64, usize)> = up.map(|(i, load)| (load.bytes(), i)).collect();
        waiting.sort_unstable();
        let (most, slowest) = waiting.pop()?;
        let next = waiting.last().map_or(0, |(bytes, _)| *bytes);
        (waiting.len() >= self.min_mirrors && next <= most / 2).then_some(slowest)
    }
}
