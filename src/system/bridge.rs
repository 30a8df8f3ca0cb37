//! The bridge from asynchronous code to work that computes for a while or waits for a disk; and waiting itself.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does `work` where it holds up nobody: on a thread for it. A runtime of one thread does it at once, so that what happens
/// on it happens in the same order each time.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        // The runtime is being shut down, and nobody waits for this any more.
        Err(_) => std::future::pending().await,
    }
}

/// What each of `works` comes to; `None` for those that are not done `patience` after the first good one.
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

/// Ends at `deadline`; never, where none is set yet.
#[cfg(feature = "publish")]
pub async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
