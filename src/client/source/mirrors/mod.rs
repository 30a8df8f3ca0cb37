//! Many mirrors as one source of blocks: as fast as the best mirror, as correct as any of them.
//!
//! [`Hedged`] sends requests to the mirrors and [`Ranking`] decides to which, by the [`MirrorHealth`] of each. These
//! two only decide, with the time as a parameter, so that they can be tested without a network. [`Deadline`] limits the
//! time of a request, [`Persistent`] retries when all mirrors have failed.

mod deadline;
mod health;
mod hedge;
mod ranking;
mod retry;

use std::time::Duration;

pub use deadline::Deadline;
pub use health::{Fault, MirrorHealth, State};
pub use hedge::Hedged;
pub use ranking::{Ranking, RequestGuard};
pub use retry::{Mode, Persistent};

/// Time limits for judging mirrors.
#[derive(Debug, Clone)]
pub struct Pace {
    /// A mirror without a request for this long is probed: it is asked for a block that another one delivers.
    pub probe_after: Duration,
    /// How long a mirror is quarantined after it failed; doubles with each further failure.
    pub quarantine: Duration,
    /// The longest quarantine.
    pub quarantine_max: Duration,
    /// A read is hedged when a mirror takes longer than this, and longer than three times its average.
    pub hedge_after: Duration,
    /// The longest attempt at one block, not counting the transfer time on a very slow connection.
    pub attempt_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            probe_after: Duration::from_secs(20),
            quarantine: Duration::from_secs(30),
            quarantine_max: Duration::from_secs(600),
            hedge_after: Duration::from_secs(1),
            attempt_max: Duration::from_secs(20),
        }
    }
}
