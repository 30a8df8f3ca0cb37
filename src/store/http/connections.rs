//! Bounds the new connections to a server that closes each of them after one answer.
//!
//! Such a server is often small: `python3 -m http.server` queues five new connections, and the kernel drops the packets
//! of the others, which are repeated a second later. So a request for each of many blocks would take seconds. A server
//! that keeps its connections gets a new one now and then only, and needs no bound.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use reqwest::header::CONNECTION;
use reqwest::{Response, Version};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Connections at once that have no answer yet: fewer than the shortest queue in use holds, enough to hide the way to the
/// server.
const FEW: usize = 4;

/// The requests to one server.
#[derive(Debug)]
pub(super) struct Connections {
    /// What the last answer said.
    are_closed: AtomicBool,
    few: Semaphore,
}

impl Default for Connections {
    fn default() -> Self {
        Self { are_closed: AtomicBool::new(false), few: Semaphore::new(FEW) }
    }
}

impl Connections {
    /// Waits until there may be one more connection; the server has accepted it when the permit is dropped.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        if self.are_closed.load(Relaxed) { self.few.acquire().await.ok() } else { None }
    }

    /// Learns from an answer what the server does.
    pub(super) fn learn(&self, answer: &Response) {
        let names: Vec<&str> =
            answer.headers().get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok()).collect();
        let says = |word: &str| names.iter().any(|v| v.split(',').any(|w| w.trim().eq_ignore_ascii_case(word)));
        let is_closed = match answer.version() {
            Version::HTTP_09 | Version::HTTP_10 => !says("keep-alive"),
            Version::HTTP_11 => says("close"),
            _ => false,
        };
        self.are_closed.store(is_closed, Relaxed);
    }
}
