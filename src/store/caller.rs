//! A last check before an irreversible step, for drivers that queue requests or hand them to threads.
//!
//! A caller may lose its lock while its request is queued, as when the machine is suspended. Its future is then no
//! longer polled (see [`Guarded`](super::lock::Guarded)), but the worker that took the request would go on. So the
//! worker asks right before it acts, and acts only if the future answers.

use std::pin::pin;

use tokio::sync::{mpsc, oneshot};

/// The worker's handle to ask its caller.
#[derive(Debug)]
pub(super) struct Caller(mpsc::UnboundedSender<oneshot::Sender<()>>);

/// The caller's end, which answers.
#[derive(Debug)]
pub(super) struct Answering(mpsc::UnboundedReceiver<oneshot::Sender<()>>);

/// Creates a connected pair.
pub(super) fn caller() -> (Caller, Answering) {
    let (asking, asked) = mpsc::unbounded_channel();
    (Caller(asking), Answering(asked))
}

impl Caller {
    /// Whether the caller still wants the request carried out.
    #[cfg(feature = "rsync")]
    pub(super) async fn still_wants(&self) -> bool {
        self.ask().await.is_ok()
    }

    /// The same, on a thread that may block.
    pub(super) fn still_wants_blocking(&self) -> bool {
        self.ask().blocking_recv().is_ok()
    }

    fn ask(&self) -> oneshot::Receiver<()> {
        let (reply, answer) = oneshot::channel();
        // If the receiver is gone, the reply is dropped, which means no.
        let _ = self.0.send(reply);
        answer
    }
}

impl Answering {
    /// Returns the result of `work`; while this is polled, questions are answered with yes.
    pub(super) async fn during<T>(mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                // An error means only that the worker no longer waits.
                Some(reply) = self.0.recv() => drop(reply.send(())),
            }
        }
    }
}
