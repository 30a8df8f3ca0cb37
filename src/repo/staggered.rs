//! Staggered requests to several stores: a few at first, and hedged ones the longer no good answer arrives. A store
//! that hangs or trickles then delays nothing while others answer.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

/// Requests, some running and the others queued. Dropping it aborts the running ones.
pub(crate) struct Staggered<F: Future> {
    waiting: VecDeque<F>,
    running: JoinSet<F::Output>,
    /// How many may run now, and how many are added after each pause.
    at_once: usize,
    step: usize,
    pause: Duration,
    more_at: Instant,
}

impl<F> Staggered<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    /// Runs `at_once` requests, and as many more after each pause; the first is `pause` long, and each further one
    /// twice as long as the one before. A finished request is replaced at once.
    pub fn new(requests: impl IntoIterator<Item = F>, at_once: usize, pause: Duration) -> Self {
        let waiting = requests.into_iter().collect();
        Self { waiting, running: JoinSet::new(), at_once, step: at_once, pause, more_at: Instant::now() + pause }
    }

    /// Lets all requests run from now on.
    pub fn start_all(&mut self) {
        self.at_once = usize::MAX;
    }

    /// The next answer; `None` when all have answered.
    pub async fn next(&mut self) -> Option<F::Output> {
        loop {
            self.start();
            tokio::select! {
                ended = self.running.join_next() => match ended? {
                    Ok(answer) => return Some(answer),
                    Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
                    Err(_) => {}
                },
                () = tokio::time::sleep_until(self.more_at), if !self.waiting.is_empty() => {
                    self.at_once = self.at_once.saturating_add(self.step);
                    self.pause *= 2;
                    self.more_at += self.pause;
                }
            }
        }
    }

    fn start(&mut self) {
        while self.running.len() < self.at_once {
            let Some(request) = self.waiting.pop_front() else { return };
            self.running.spawn(request);
        }
    }
}
