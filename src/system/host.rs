//! A publisher's clocks and random numbers; a simulation supplies its own.

use std::fmt;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::format::time::Timestamp;

/// The machine of a publisher.
pub trait Host: Send + Sync + fmt::Debug {
    /// Time since boot, including suspend; used for leases.
    fn boot(&self) -> Duration;

    /// Wall-clock time, which may be wrong and may jump.
    fn now(&self) -> Timestamp;

    /// A uniformly distributed 64-bit random number.
    fn random(&self) -> u64;
}

/// This machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThisHost;

impl Host for ThisHost {
    fn boot(&self) -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_system(SystemTime::now())
    }

    fn random(&self) -> u64 {
        rand::random()
    }
}

/// A random number in the range 0 (inclusive) to 1 (exclusive).
pub fn chance(host: &dyn Host) -> f64 {
    (host.random() >> 11) as f64 / (1_u64 << 53) as f64
}
