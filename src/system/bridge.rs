//! Runs CPU-bound and blocking work from asynchronous code; also deadlines.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `work` on a blocking thread. A current-thread runtime runs it inline, so that execution order is deterministic.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        // The runtime is shutting down, and no task waits for this any more.
        Err(_) => std::future::pending().await,
    }
}

/// The outputs of `works`; `None` for those not done within `patience` after the first good one.
#[cfg(feature = "publish")]
pub async fn in_time<F: Future>(
    works: impl IntoIterator<Item = F>,
    patience: std::time::Duration,
    is_good: impl Fn(&F::Output) -> bool,
) -> Vec<Option<F::Output>> {
    use futures_util::StreamExt as _;
    let numbered = works.into_iter().enumerate().map(|(i, work)| async move { (i, work.await) });
    let mut running: futures_util::stream::FuturesUnordered<_> = numbered.collect();
    let mut done: Vec<Option<F::Output>> = (0..running.len()).map(|_| None).collect();
    let mut deadline = None;
    loop {
        tokio::select! {
            biased;
            ended = running.next() => {
                let Some((i, output)) = ended else { return done };
                if is_good(&output) {
                    deadline.get_or_insert_with(|| tokio::time::Instant::now() + patience);
                }
                done[i] = Some(output);
            }
            () = until(deadline) => return done,
        }
    }
}

/// Completes at `deadline`; never if it is `None`.
#[cfg(feature = "publish")]
pub async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
