//! Works on a list with several threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::work::Work;
use crate::error::Error;

/// Calls `each` for all `items` on `jobs` threads, roughly in their order. Each thread has its own buffer.
///
/// # Errors
/// The first failure; the user cancelled.
pub fn each<T: Sync>(
    work: &Work,
    jobs: usize,
    items: &[T],
    each: impl Fn(&T, &mut Vec<u8>) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut buffer = Vec::new();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            // After a failure, the others end too.
            let done = work.check_cancelled().and_then(|()| each(item, &mut buffer));
            done.inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.clamp(1, items.len().max(1))).map(|_| scope.spawn(run)).collect();
        let mut ended = threads.into_iter().map(|thread| thread.join());
        ended.try_for_each(|end| end.unwrap_or_else(|_| Err(Error::local("a thread failed"))))
    })
}
