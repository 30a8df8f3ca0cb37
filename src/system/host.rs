//! What a publisher takes from its machine: the times, and random numbers. A simulation hands in its own.

use std::fmt;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::format::time::Timestamp;

/// A machine that publishes.
pub trait Host: Send + Sync + fmt::Debug {
    /// Time since the machine was started, the time that it was suspended included: what leases are measured by.
    fn boot(&self) -> Duration;

    /// The time of the calendar, which may be wrong and may jump.
    fn now(&self) -> Timestamp;

    /// A random number.
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

/// A random number from 0 (included) to 1 (excluded).
pub fn chance(host: &dyn Host) -> f64 {
    (host.random() >> 11) as f64 / (1_u64 << 53) as f64
}
