//! No more than so many bytes in a second.
//!
//! Objects are small, so each goes out at full speed when its turn has come; what counts is the mean.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Gives turns to those who send.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: u64,
    /// When the next object may go.
    next: Mutex<Instant>,
}

impl Pace {
    /// At most `bytes_per_second`, at least 1.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), next: Mutex::new(Instant::now()) }
    }

    /// Waits until an object of so many bytes may go.
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
