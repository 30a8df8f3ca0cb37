//! Group commit: requests of one kind wait here while others are under way, and are then carried together.
//!
//! It knows nothing of rsync: what a batch does is the business of its [`Batch`].

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::failure::Failure;
use super::host::{Host, TURNS};
use crate::layout::RepoPath;
use crate::store::StoreError;

/// Objects of one batch: more of them make its start no cheaper.
pub(super) const BATCH_OBJECTS: usize = 256;
/// How long the first request waits for its companions: little beside the start of two programs.
const GATHER: Duration = Duration::from_millis(5);

/// Requests of one kind, and how they are carried together.
#[async_trait]
pub(super) trait Batch: Sized + Send + Sync + 'static {
    /// What a request brings.
    type In: Send + Sync;
    /// What it is answered.
    type Out: Clone + Send + Sync;

    /// Bytes of a batch, of which a copy lies on the disk; one object may be larger.
    const MAX_BYTES: u64 = 64 << 20;

    /// Of two requests for one path in a batch, whether the later one is carried.
    const LAST_WINS: bool = false;

    /// Bytes that a request moves at most.
    fn bytes(input: &Self::In) -> u64;

    /// Carries requests for different paths; one answer for each, in their order.
    async fn run(host: &Host, requests: &[(RepoPath, Self::In)]) -> Result<Vec<Result<Self::Out, Failure>>, Failure>;

    /// What those are answered whose path was carried for another request.
    fn others(carried: Self::Out) -> Self::Out {
        carried
    }

    /// Whether two requests can be carried together.
    fn together(_first: &Self::In, _next: &Self::In) -> bool {
        true
    }
}

type Answer<B> = oneshot::Sender<Result<<B as Batch>::Out, StoreError>>;

struct Request<B: Batch> {
    path: RepoPath,
    input: B::In,
    answer: Answer<B>,
}

/// The requests of one kind.
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

    /// Adds a request; true where [`Lane::work`] has to be started for it.
    pub(super) fn push(&self, path: RepoPath, input: B::In) -> (oneshot::Receiver<Result<B::Out, StoreError>>, bool) {
        let (answer, receiver) = oneshot::channel();
        let mut state = self.state();
        state.waiting.push_back(Request { path, input, answer });
        let wanted = state.workers < TURNS;
        state.workers += usize::from(wanted);
        (receiver, wanted)
    }

    /// Carries batches until none is waiting.
    pub(super) async fn work(lane: Arc<Self>, host: Arc<Host>) {
        let worker = Worker(&lane);
        loop {
            sleep(GATHER).await;
            let Some(_turn) = host.turn().await else { return };
            let Some(batch) = lane.take() else { return std::mem::forget(worker) };
            carry(&host, batch).await;
        }
    }

    /// The next batch; where there is none, the worker is counted out within the same lock.
    fn take(&self) -> Option<Vec<Request<B>>> {
        let mut state = self.state();
        // Nobody waits for these any more.
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

/// Counts a worker out that is dropped in the middle.
struct Worker<'a, B: Batch>(&'a Lane<B>);

impl<B: Batch> Drop for Worker<'_, B> {
    fn drop(&mut self) {
        self.0.state().workers -= 1;
    }
}

/// Carries a batch and answers all of it.
async fn carry<B: Batch>(host: &Host, batch: Vec<Request<B>>) {
    let mut carried: Vec<(RepoPath, B::In)> = Vec::with_capacity(batch.len());
    let mut places = std::collections::HashMap::new();
    // Who waits for the answer of each path; the first is the one whose request is carried.
    let mut answers: Vec<Vec<Answer<B>>> = Vec::with_capacity(batch.len());
    for Request { path, input, answer } in batch {
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
    let mut outcomes = match B::run(host, &carried).await {
        Ok(outcomes) => outcomes,
        Err(failure) => carried.iter().map(|_| Err(failure.clone())).collect(),
    };
    for (((path, _), waiting), outcome) in carried.iter().zip(answers).zip(outcomes.drain(..)) {
        let outcome = outcome.map_err(|failure| failure.at(&host.location, path));
        for (i, answer) in waiting.into_iter().enumerate() {
            let outcome = outcome.clone();
            // Whoever has gone away meanwhile needs no answer.
            let _ = answer.send(if i == 0 { outcome } else { outcome.map(B::others) });
        }
    }
}
