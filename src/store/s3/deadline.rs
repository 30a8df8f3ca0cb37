//! How long a request may take.
//!
//! Many uploads share one line: what each of them may take depends on what all of them have to send, or a slow line
//! with many of them would never finish one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a request may take beside its bytes.
const BASE: Duration = Duration::from_secs(30);
/// The slowest that one request may be, bytes in a second.
const SLOWEST: u64 = 16 << 10;
/// The slowest that all requests together may be, bytes in a second.
const SLOWEST_TOGETHER: u64 = 64 << 10;
/// The longest that one waits for the others.
const TOGETHER_MAX: Duration = Duration::from_secs(600);

/// The bytes that are being sent.
#[derive(Debug, Default)]
pub(super) struct Traffic(AtomicU64);

/// Some of them, until this is dropped.
pub(super) struct UnderWay<'a> {
    traffic: &'a Traffic,
    bytes: u64,
    /// How long they may take.
    pub(super) deadline: Duration,
}

impl Traffic {
    /// Counts `bytes` in.
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

/// How long a transfer of `bytes` may take while `all` bytes are under way.
fn deadline(bytes: u64, all: u64) -> Duration {
    let alone = Duration::from_secs(bytes / SLOWEST);
    let together = Duration::from_secs(all / SLOWEST_TOGETHER).min(TOGETHER_MAX);
    BASE + alone.max(together)
}
