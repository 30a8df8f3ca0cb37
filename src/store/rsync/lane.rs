//! Group commit: requests of one kind are queued while others are in progress, and then run as one batch.
//!
//! Independent of rsync: the work is defined by each [`Batch`].

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::failure::Failure;
use super::host::{Host, TURNS};
use crate::format::layout::RepoPath;
use crate::store::StoreError;
use crate::store::caller::{Answering, Caller, caller};

/// Maximum number of objects in a batch; larger batches gain nothing.
pub(super) const BATCH_OBJECTS: usize = 256;
/// Time that the first request waits for others: short compared with the start of two programs.
const GATHER: Duration = Duration::from_millis(5);
/// Maximum age of a caller's confirmation that its request is still wanted.
const ANSWER_AGE_MAX: Duration = Duration::from_millis(100);

/// Requests of one kind, and how they run together.
#[async_trait]
pub(super) trait Batch: Sized + Send + Sync + 'static {
    /// Input of a request.
    type In: Send + Sync;
    /// Result of a request.
    type Out: Clone + Send + Sync;

    /// Maximum size of a batch in bytes, which is copied to the disk; a single object may be larger.
    const MAX_BYTES: u64 = 64 << 20;

    /// Whether the later of two requests for one path in a batch wins.
    const LAST_WINS: bool = false;

    /// Whether the callers must confirm their requests before the batch runs.
    const ASKS: bool = false;

    /// Maximum number of bytes a request transfers.
    fn bytes(input: &Self::In) -> u64;

    /// Runs requests for different paths; returns one result for each, in their order.
    async fn run(host: &Host, requests: &[(RepoPath, Self::In)]) -> Result<Vec<Result<Self::Out, Failure>>, Failure>;

    /// The result for a request merged with an earlier one for the same path.
    fn others(carried: Self::Out) -> Self::Out {
        carried
    }

    /// Whether two requests can be in one batch.
    fn together(_first: &Self::In, _next: &Self::In) -> bool {
        true
    }
}

type Answer<B> = oneshot::Sender<Result<<B as Batch>::Out, StoreError>>;

/// The pending result of a request.
pub(super) struct Pending<T> {
    receiver: oneshot::Receiver<Result<T, StoreError>>,
    answering: Answering,
}

impl<T> Pending<T> {
    /// Waits for the result; `None` if the request was dropped.
    pub(super) async fn answer(self) -> Option<Result<T, StoreError>> {
        self.answering.during(self.receiver).await.ok()
    }
}

struct Request<B: Batch> {
    path: RepoPath,
    input: B::In,
    answer: Answer<B>,
    caller: Caller,
}

/// The queue of requests of one kind.
pub(super) struct Lane<B: Batch>(Mutex<State<B>>);

struct State<B: Batch> {
    waiting: VecDeque<Request<B>>,
    workers: usize,
}

impl<B: Batch> Default for Lane<B> {
    fn default() -> Self {
        Self(Mutex::new(State { waiting: VecDeque::new(), workers: 0 }))
    }
}

impl<B: Batch> fmt::Debug for Lane<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lane({} waiting)", self.state().waiting.len())
    }
}

impl<B: Batch> Lane<B> {
    fn state(&self) -> MutexGuard<'_, State<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request; true if [`Lane::work`] has to be started for it.
    pub(super) fn push(&self, path: RepoPath, input: B::In) -> (Pending<B::Out>, bool) {
        let ((answer, receiver), (caller, answering)) = (oneshot::channel(), caller());
        let mut state = self.state();
        state.waiting.push_back(Request { path, input, answer, caller });
        let wanted = state.workers < TURNS;
        state.workers += usize::from(wanted);
        (Pending { receiver, answering }, wanted)
    }

    /// Runs batches until the queue is empty.
    pub(super) async fn work(lane: Arc<Self>, host: Arc<Host>) {
        let worker = Worker(&lane);
        loop {
            sleep(GATHER).await;
            let Some(_turn) = host.turn().await else { return };
            let Some(batch) = lane.take() else { return std::mem::forget(worker) };
            let batch = if B::ASKS { still_wanted(batch).await } else { batch };
            if !batch.is_empty() {
                carry(&host, batch).await;
            }
        }
    }

    /// Takes the next batch; if there is none, the worker is deregistered under the same lock.
    fn take(&self) -> Option<Vec<Request<B>>> {
        let mut state = self.state();
        // Drop cancelled requests.
        state.waiting.retain(|request| !request.answer.is_closed());
        let (mut count, mut bytes) = (0, 0_u64);
        for request in &state.waiting {
            bytes = bytes.saturating_add(B::bytes(&request.input));
            let fits = count < BATCH_OBJECTS && bytes <= B::MAX_BYTES;
            if count > 0 && !(fits && B::together(&state.waiting[0].input, &request.input)) {
                break;
            }
            count += 1;
        }
        if count == 0 {
            state.workers -= 1;
            return None;
        }
        Some(state.waiting.drain(..count).collect())
    }
}

/// Deregisters a worker that is dropped before it ends.
struct Worker<'a, B: Batch>(&'a Lane<B>);

impl<B: Batch> Drop for Worker<'_, B> {
    fn drop(&mut self) {
        self.0.state().workers -= 1;
    }
}

/// The requests of a batch that their callers still want. If one caller was slow to confirm, all are asked again.
async fn still_wanted<B: Batch>(mut batch: Vec<Request<B>>) -> Vec<Request<B>> {
    loop {
        let asked = Instant::now();
        let wanted = join_all(batch.iter().map(|request| request.caller.still_wants())).await;
        batch = batch.into_iter().zip(wanted).filter_map(|(request, wanted)| wanted.then_some(request)).collect();
        if asked.elapsed() < ANSWER_AGE_MAX {
            return batch;
        }
    }
}

/// Runs a batch and sends the results; aborts once all its requests are cancelled.
async fn carry<B: Batch>(host: &Host, batch: Vec<Request<B>>) {
    let mut carried: Vec<(RepoPath, B::In)> = Vec::with_capacity(batch.len());
    let mut places = std::collections::HashMap::new();
    // The result channels of each path; the first is of the request that created the entry.
    let mut answers: Vec<Vec<Answer<B>>> = Vec::with_capacity(batch.len());
    for Request { path, input, answer, .. } in batch {
        let place = *places.entry(path.clone()).or_insert(carried.len());
        if place == carried.len() {
            carried.push((path, input));
            answers.push(vec![answer]);
        } else {
            if B::LAST_WINS {
                carried[place].1 = input;
            }
            answers[place].push(answer);
        }
    }
    let ran = tokio::select! {
        ran = B::run(host, &carried) => ran,
        _ = join_all(answers.iter_mut().flatten().map(Answer::<B>::closed)) => return,
    };
    let mut outcomes = match ran {
        Ok(outcomes) => outcomes,
        Err(failure) => carried.iter().map(|_| Err(failure.clone())).collect(),
    };
    for (((path, _), waiting), outcome) in carried.iter().zip(answers).zip(outcomes.drain(..)) {
        let outcome = outcome.map_err(|failure| failure.at(&host.location, path));
        for (i, answer) in waiting.into_iter().enumerate() {
            let outcome = outcome.clone();
            // A cancelled request needs no result.
            let _ = answer.send(if i == 0 { outcome } else { outcome.map(B::others) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::store::rsync::RsyncConfig;

    static CARRIED: AtomicUsize = AtomicUsize::new(0);

    /// Counts the requests it runs.
    struct Counted;

    #[async_trait]
    impl Batch for Counted {
        type In = ();
        type Out = ();

        const ASKS: bool = true;

        fn bytes(_input: &()) -> u64 {
            0
        }

        async fn run(_: &Host, requests: &[(RepoPath, ())]) -> Result<Vec<Result<(), Failure>>, Failure> {
            CARRIED.fetch_add(requests.len(), Relaxed);
            Ok(requests.iter().map(|_| Ok(())).collect())
        }
    }

    /// As when one caller's lock expired while they waited.
    #[tokio::test]
    async fn of_those_who_wait_only_who_still_wants_it_is_carried() {
        let config = RsyncConfig { host: "localhost".into(), path: "/".into(), ..RsyncConfig::default() };
        let Ok(host) = Host::new(&config) else {
            let _ = writeln!(std::io::stdout(), "skipped: rsync or ssh is not installed");
            return;
        };
        let lane: Arc<Lane<Counted>> = Arc::default();
        let push = |name: &str| lane.push(name.parse().expect("a path"), ()).0;
        let (one, two, three) = (push("one"), push("two"), push("three"));
        let work = tokio::spawn(Lane::work(Arc::clone(&lane), Arc::new(host)));
        let answers = join_all([one.answer(), three.answer()]);
        // The second request is not polled, so it cannot confirm: nothing runs.
        assert!(tokio::time::timeout(Duration::from_millis(300), answers).await.is_err());
        assert_eq!(CARRIED.load(Relaxed), 0);
        drop(two);
        work.await.expect("no panic");
        assert_eq!(CARRIED.load(Relaxed), 0, "the others have gone away meanwhile");
        let (four, wanted) = lane.push("four".parse().expect("a path"), ());
        assert!(wanted);
        let config = RsyncConfig { host: "localhost".into(), path: "/".into(), ..RsyncConfig::default() };
        tokio::spawn(Lane::work(Arc::clone(&lane), Arc::new(Host::new(&config).expect("as before"))));
        assert!(four.answer().await.is_some_and(|answer| answer.is_ok()));
        assert_eq!(CARRIED.load(Relaxed), 1);
    }
}
