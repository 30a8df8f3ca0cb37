//! Many mirrors as one source of blocks, which is as fast as the best of them and as right as any of them.
//!
//! [`Hedged`] asks the mirrors for a block, [`Ranking`] decides which, by what [`MirrorHealth`] knows of each: both only
//! decide, at times that they are told, so that they can be tested without a network. [`Deadline`] ends what does not
//! end, [`Persistent`] asks again when all have failed.

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

/// The times by which mirrors are judged.
#[derive(Debug, Clone)]
pub struct Pace {
    /// A mirror that was not asked for so long is asked for a block that another one gives, to see what it is worth now.
    pub probe_after: Duration,
    /// How long a mirror is left alone after it has failed; twice as long each time it fails again.
    pub quarantine: Duration,
    /// The longest that it is left alone.
    pub quarantine_max: Duration,
    /// A second mirror is asked when the first takes longer than this, and than three times its usual time.
    pub hedge_after: Duration,
    /// The longest that one attempt at a block may take, beyond the time of its bytes on a very slow connection.
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
