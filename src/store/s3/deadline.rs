//! Deadlines of requests.
//!
//! Concurrent uploads share one connection, so each deadline depends on the data in flight of all of them. Otherwise,
//! many uploads on a slow connection would all time out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Time for a request in addition to its transfer.
const BASE: Duration = Duration::from_secs(30);
/// Lowest acceptable rate of one request, in bytes per second.
const SLOWEST: u64 = 16 << 10;
/// Lowest acceptable rate of all requests together, in bytes per second.
const SLOWEST_TOGETHER: u64 = 64 << 10;
/// The most time a request is given because of the others.
const TOGETHER_MAX: Duration = Duration::from_secs(600);

/// Total bytes in flight.
#[derive(Debug, Default)]
pub(super) struct Traffic(AtomicU64);

/// The share of one transfer, until dropped.
pub(super) struct UnderWay<'a> {
    traffic: &'a Traffic,
    bytes: u64,
    /// Deadline of the transfer.
    pub(super) deadline: Duration,
}

impl Traffic {
    /// Adds `bytes` to the total and computes their deadline.
    pub(super) fn begin(&self, bytes: u64) -> UnderWay<'_> {
        let all = bytes.saturating_add(self.0.fetch_add(bytes, Ordering::Relaxed));
        UnderWay { traffic: self, bytes, deadline: deadline(bytes, all) }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.traffic.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Deadline for a transfer of `bytes` while `all` bytes are in flight.
fn deadline(bytes: u64, all: u64) -> Duration {
    let alone = Duration::from_secs(bytes / SLOWEST);
    let together = Duration::from_secs(all / SLOWEST_TOGETHER).min(TOGETHER_MAX);
    BASE + alone.max(together)
}
