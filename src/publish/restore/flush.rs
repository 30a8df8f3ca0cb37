//! Flushes the output to its medium now and then: a power cut costs the last seconds, and not all that is in memory.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::work::Work;
use crate::error::Error;

/// Interval.
const EVERY: Duration = Duration::from_secs(2);

/// A thread that flushes, until it is stopped.
pub struct Flusher {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Flusher {
    /// Starts the thread.
    pub fn start(work: &Arc<Work>) -> Self {
        let (stop, stopped) = channel();
        let work = Arc::clone(work);
        let run = move || {
            let mut flushed = 0;
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                let written = work.counts.written();
                if written > flushed {
                    work.out.sync_data()?;
                    flushed = written;
                }
            }
            Ok(())
        };
        Self { stop: Some(stop), thread: Some(std::thread::spawn(run)) }
    }

    /// Stops the thread.
    ///
    /// # Errors
    /// A flush that failed: the system tells that once only.
    pub fn stop(mut self) -> Result<(), Error> {
        self.stop = None;
        let ended = self.thread.take().map(JoinHandle::join);
        ended.unwrap_or(Ok(Ok(()))).unwrap_or_else(|_| Err(Error::local("the flushing thread failed")))
    }
}
