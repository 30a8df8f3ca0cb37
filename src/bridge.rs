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

/// Ends at `deadline`; never, where none is set yet.
#[cfg(feature = "publish")]
pub async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
