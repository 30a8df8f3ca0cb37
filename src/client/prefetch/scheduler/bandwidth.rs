//! What is known of the link to the mirrors: its rate, and how quickly it answers.
//!
//! Pure arithmetic over fetches that have ended: the rate is the most that was carried while one of them was under way,
//! and both figures are forgotten slowly, so that a link that changes is found out.

use std::time::Duration;

/// How much of the best figure is left when the next fetch ends.
const KEPT: f64 = 0.98;

/// The link as it was measured.
#[derive(Debug, Clone, Default)]
pub struct Bandwidth {
    fetches: u64,
    delivered: u64,
    bytes_per_s: Option<f64>,
    quickest_s: Option<f64>,
}

impl Bandwidth {
    /// All bytes that were carried so far.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Fetches that have ended.
    pub fn fetches(&self) -> u64 {
        self.fetches
    }

    /// A fetch of `bytes` has ended that took so long, and when it began, `delivered_before` had been carried.
    pub fn carried(&mut self, bytes: u64, delivered_before: u64, took: Duration) {
        self.fetches += 1;
        self.delivered += bytes;
        let took_s = took.as_secs_f64().max(1e-4);
        let rate = self.delivered.saturating_sub(delivered_before) as f64 / took_s;
        self.bytes_per_s = Some(self.bytes_per_s.map_or(rate, |best| rate.max(best * KEPT)));
        self.quickest_s = Some(self.quickest_s.map_or(took_s, |best| took_s.min(best / KEPT)));
    }

    /// The bytes that are under way when the link is busy and nothing waits in front of it.
    pub fn holds_bytes(&self) -> Option<f64> {
        Some(self.bytes_per_s? * self.quickest_s?)
    }
}
