//! Estimates the link to the mirrors: bandwidth and delay.
//!
//! Pure arithmetic over completed fetches. The bandwidth is the highest rate carried during any one fetch, the delay
//! the shortest fetch. Both decay slowly, so that a change of the link is noticed.

use std::time::Duration;

/// The part of the best value that remains after each fetch.
const KEPT: f64 = 0.98;

/// The measured link.
#[derive(Debug, Clone, Default)]
pub struct Bandwidth {
    fetches: u64,
    delivered: u64,
    bytes_per_s: Option<f64>,
    quickest_s: Option<f64>,
}

impl Bandwidth {
    /// Bytes carried so far.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Number of completed fetches.
    pub fn fetches(&self) -> u64 {
        self.fetches
    }

    /// Records a completed fetch of `bytes` that took `took`; `delivered_before` bytes had been carried when it began.
    pub fn carried(&mut self, bytes: u64, delivered_before: u64, took: Duration) {
        self.fetches += 1;
        self.delivered += bytes;
        let took_s = took.as_secs_f64().max(1e-4);
        let rate = self.delivered.saturating_sub(delivered_before) as f64 / took_s;
        self.bytes_per_s = Some(self.bytes_per_s.map_or(rate, |best| rate.max(best * KEPT)));
        self.quickest_s = Some(self.quickest_s.map_or(took_s, |best| took_s.min(best / KEPT)));
    }

    /// The bandwidth-delay product in bytes: what is in flight when the link is busy and nothing queues.
    pub fn holds_bytes(&self) -> Option<f64> {
        Some(self.bytes_per_s? * self.quickest_s?)
    }
}
