//! A limit in bytes per second.
//!
//! Objects are small, so each is sent at full speed once its slot comes; only the mean rate is limited.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Schedules sends to keep a mean rate.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: u64,
    /// When the next object may be sent.
    next: Mutex<Instant>,
}

impl Pace {
    /// Limits to `bytes_per_second`, at least 1.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), next: Mutex::new(Instant::now()) }
    }

    /// Waits until an object of `bytes` bytes may be sent.
    pub async fn turn(&self, bytes: usize) {
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + takes;
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}
