//! An image cut on one thread, its blocks worked on by all cores.
//!
//! At most a few blocks wait between the two, so memory does not depend on the image.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

use super::image::Image;
use crate::error::Error;
use crate::split::{Cut, Rule};

/// Blocks that wait for a free core, for each core.
const QUEUE_PER_JOB: usize = 2;

/// Reads `image` once, cuts it by `rule`, and has `work` do something with each block, on `jobs` threads; each of them
/// has a `tool` of its own. `passed` is told how far the reading got, in bytes. Returns the bytes of the image.
///
/// # Errors
/// The first failure of the work, else of the reading; [`ErrorKind::Interrupted`](crate::publish::ErrorKind::Interrupted) once
/// `cancel` is set.
pub fn work_on_blocks<T>(
    image: &Image,
    rule: Rule,
    jobs: usize,
    cancel: &AtomicBool,
    passed: &(dyn Fn(u64) + Sync),
    tool: impl Fn() -> T + Sync,
    work: impl Fn(&mut T, Cut) -> Result<(), Error> + Sync,
) -> Result<u64, Error> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build();
    let pool = pool.map_err(|e| Error::local(format!("cannot start {jobs} threads: {e}")))?;
    let (sender, receiver) = sync_channel(jobs * QUEUE_PER_JOB);
    let (receiver, failed) = (Mutex::new(receiver), AtomicBool::new(false));
    let take = || {
        let mut tool = tool();
        while let Some(cut) = next(&receiver) {
            // After a failure the queue is only emptied, so that the reader does not wait for room in it.
            if !failed.load(Ordering::Relaxed) {
                work(&mut tool, cut).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            }
        }
        Ok(())
    };
    let stop = || cancel.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
    let (read, worked) = std::thread::scope(|scope| {
        // Moved in: the queue ends with the reader.
        let mut send = move |cut| drop(sender.send(cut));
        let reader = scope.spawn(move || image.split(rule, &stop, passed, &mut send));
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

/// Takes whatever comes until the reader ends: where every worker has failed, it must not wait for one.
fn drain(receiver: &Mutex<Receiver<Cut>>) {
    while next(receiver).is_some() {}
}
