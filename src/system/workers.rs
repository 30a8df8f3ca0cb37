//! A small thread pool for work that may hang: file systems whose disk or server no longer answers.
//!
//! Each user has its own pool, so a hang affects only that pool. Callers wait for a limited time. While any job is
//! overdue, new calls fail at once; when it returns, the pool works again. Late results are dropped.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// How long an idle thread is kept.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How often a caller checks, within its patience, whether its job is stuck behind an overdue one.
const LOOKS: u32 = 8;

/// The work took longer than its deadline, or is blocked by other work that hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue;

/// A pool of threads.
#[derive(Debug)]
pub struct Workers(Arc<Pool>);

struct Pool {
    threads_max: usize,
    state: Mutex<State>,
    queued: Condvar,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} threads at most)", self.threads_max)
    }
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// Deadline of each running job, by job number.
    running: HashMap<u64, Instant>,
    threads: usize,
    idle: usize,
    jobs: u64,
    closed: bool,
}

struct Job {
    number: u64,
    patience: Duration,
    work: Box<dyn FnOnce() + Send>,
}

impl State {
    fn is_overdue(&self) -> bool {
        let now = Instant::now();
        self.running.values().any(|due| *due <= now)
    }
}

impl Workers {
    /// A pool of at most `threads_max` threads, at least one, started on demand.
    pub fn new(threads_max: usize) -> Self {
        let (threads_max, state, queued) = (threads_max.max(1), Mutex::default(), Condvar::new());
        Self(Arc::new(Pool { threads_max, state, queued }))
    }

    /// Runs `work`, which may block its thread. `patience` counts from when a thread starts it.
    ///
    /// # Errors
    /// [`Overdue`] if it takes longer, and at once while other work of this pool is overdue.
    pub async fn run<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Overdue> {
        let (sender, mut answer) = oneshot::channel();
        let work = Box::new(move || {
            // Skipped if its caller no longer waits.
            if !sender.is_closed() {
                let _ = sender.send(work());
            }
        });
        self.queue(patience, work)?;
        loop {
            match tokio::time::timeout((patience / LOOKS).max(Duration::from_millis(1)), &mut answer).await {
                Ok(answered) => return answered.map_err(|_| Overdue),
                Err(_) if self.0.lock().is_overdue() => return Err(Overdue),
                Err(_) => {}
            }
        }
    }

    fn queue(&self, patience: Duration, work: Box<dyn FnOnce() + Send>) -> Result<(), Overdue> {
        let mut state = self.0.lock();
        if state.is_overdue() {
            return Err(Overdue);
        }
        state.jobs += 1;
        let number = state.jobs;
        state.queue.push_back(Job { number, patience, work });
        if state.idle < state.queue.len() && state.threads < self.0.threads_max {
            let pool = Arc::clone(&self.0);
            let started = std::thread::Builder::new().name("hfl-files".into()).spawn(move || pool.serve());
            state.threads += usize::from(started.is_ok());
            if state.threads == 0 {
                state.queue.clear();
                return Err(Overdue);
            }
        }
        drop(state);
        self.0.queued.notify_one();
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.queued.notify_all();
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop of each thread.
    fn serve(&self) {
        while let Some(Job { number, work, .. }) = self.next() {
            // On a panic the caller gets no answer; the thread continues with the next job.
            let _ = std::panic::catch_unwind(AssertUnwindSafe(work));
            self.lock().running.remove(&number);
        }
    }

    /// Takes the next job and records it as running; `None` if the thread, no longer counted, must end.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                state.running.insert(job.number, Instant::now() + job.patience);
                return Some(job);
            }
            if state.closed {
                state.threads -= 1;
                return None;
            }
            state.idle += 1;
            let (woken, waited) = self.queued.wait_timeout(state, IDLE_MAX).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn what_hangs_is_left_and_comes_back() {
        let workers = Arc::new(Workers::new(2));
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let started = Instant::now();
        let mut waiting = tokio::task::JoinSet::new();
        let its = Arc::clone(&workers);
        waiting.spawn(async move { its.run(PATIENCE, move || hang.recv().is_ok()).await });
        tokio::time::sleep(PATIENCE / 2).await;
        assert_eq!(workers.run(PATIENCE, || 7).await, Ok(7), "the other thread works");
        assert_eq!(waiting.join_next().await.expect("one").expect("no panic"), Err(Overdue));
        assert!(started.elapsed() < PATIENCE * 3, "{:?}", started.elapsed());
        let refused = Instant::now();
        assert_eq!(workers.run(PATIENCE, || 7).await, Err(Overdue));
        assert!(refused.elapsed() < PATIENCE / 2, "at once");
        release.send(()).expect("it still waits");
        tokio::time::sleep(PATIENCE / 2).await;
        assert_eq!(workers.run(PATIENCE, || 8).await, Ok(8));
    }

    #[tokio::test]
    async fn those_behind_what_hangs_do_not_wait_longer_and_a_panic_costs_one_answer() {
        let workers = Arc::new(Workers::new(1));
        let (_release, hang) = std::sync::mpsc::channel::<()>();
        assert_eq!(
            workers.run(PATIENCE, || std::panic::resume_unwind(Box::new("a mistake in the code"))).await,
            Err::<(), _>(Overdue)
        );
        assert_eq!(workers.run(PATIENCE, || 1).await, Ok(1));
        let its = Arc::clone(&workers);
        // Its caller goes away, as when another mirror answered first.
        let gone = tokio::spawn(async move { its.run(PATIENCE, move || hang.recv().is_ok()).await });
        tokio::time::sleep(PATIENCE / 4).await;
        gone.abort();
        let started = Instant::now();
        assert_eq!(workers.run(PATIENCE, || 2).await, Err(Overdue));
        assert!(started.elapsed() < PATIENCE * 3, "{:?}", started.elapsed());
    }
}
