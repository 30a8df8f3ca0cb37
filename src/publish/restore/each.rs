//! Works on a list of blocks with several threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::work::Work;
use crate::error::Error;

/// Calls `each` for all `blocks` on `jobs` threads, roughly in their order. Each thread has its own buffer.
///
/// # Errors
/// The first failure; the user cancelled.
pub fn each(
    work: &Work,
    jobs: usize,
    blocks: &[u32],
    each: impl Fn(u32, &mut Vec<u8>) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut buffer = Vec::new();
        while let Some(&block) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
            // After a failure, the others end too.
            let done = work.check_cancelled().and_then(|()| each(block, &mut buffer));
            done.inspect_err(|_| next.store(blocks.len(), Ordering::Relaxed))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(run)).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.map(|end| end.unwrap_or_else(|_| Err(Error::local("a thread failed")))).collect()
    })
}
