//! Worker pool: one thread cuts the image, all cores process its blocks.
//!
//! The queue between them is bounded, so memory use does not depend on the image size.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

use super::image::{self, Passed, Reading};
use crate::disk::input::Input;
use crate::error::Error;
use crate::split::Cut;

/// Queue length per worker thread.
const QUEUE_PER_JOB: usize = 2;

/// Reads `image` once, cuts it, and calls `work` for each block on `jobs` threads. Each thread has its own
/// `tool`. `passed` receives the bytes of each part read.
///
/// # Errors
/// The first failure of `work`, else of reading; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted)
/// once `cancel` is set.
pub fn work_on_blocks<T>(
    image: &Input,
    reading: Reading,
    jobs: usize,
    cancel: &AtomicBool,
    passed: &(dyn Fn(u64) + Sync),
    tool: impl Fn() -> T + Sync,
    work: impl Fn(&mut T, Cut) -> Result<(), Error> + Sync,
) -> Result<Passed, Error> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build();
    let pool = pool.map_err(|e| Error::local(format!("cannot start {jobs} threads: {e}")))?;
    let (sender, receiver) = sync_channel(jobs * QUEUE_PER_JOB);
    let (receiver, failed) = (Mutex::new(receiver), AtomicBool::new(false));
    let take = || {
        let mut tool = tool();
        while let Some(cut) = next(&receiver) {
            // After a failure the queue is only drained, so that the reading thread does not block on it.
            if !failed.load(Ordering::Relaxed) {
                work(&mut tool, cut).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            }
        }
        Ok(())
    };
    let stop = || cancel.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
    let (read, worked) = std::thread::scope(|scope| {
        // Moved in, so that the queue closes when the reading thread ends.
        let mut send = move |cut| drop(sender.send(cut));
        let reader = scope.spawn(move || image::split(image, reading, &stop, passed, &mut send));
        let worked: Vec<Result<(), Error>> = pool.broadcast(|_| take());
        drain(&receiver);
        (reader.join(), worked)
    });
    worked.into_iter().collect::<Result<(), Error>>()?;
    read.unwrap_or_else(|_| Err(Error::local("the reading thread failed")))
}

fn next(receiver: &Mutex<Receiver<Cut>>) -> Option<Cut> {
    receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Discards blocks until the reading thread ends: if every worker has failed, it must not block on the queue.
fn drain(receiver: &Mutex<Receiver<Cut>>) {
    while next(receiver).is_some() {}
}
