//! The last question before what cannot be undone, for drivers in which a request waits: for a thread, or in a queue.
//!
//! A caller may lose its lock while its request waits, as when the machine sleeps. Its future is then polled no more (see
//! [`Guarded`](super::lock::Guarded)), but whoever has taken the request from it would go on. So it asks right before it acts,
//! and acts only where the future answers.

use std::pin::pin;

use tokio::sync::{mpsc, oneshot};

/// A caller that can be asked.
#[derive(Debug)]
pub(super) struct Caller(mpsc::UnboundedSender<oneshot::Sender<()>>);

/// What the caller answers with.
#[derive(Debug)]
pub(super) struct Answering(mpsc::UnboundedReceiver<oneshot::Sender<()>>);

/// A caller, and what it answers with.
pub(super) fn caller() -> (Caller, Answering) {
    let (asking, asked) = mpsc::unbounded_channel();
    (Caller(asking), Answering(asked))
}

impl Caller {
    /// Whether the caller still wants it.
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
        // Where nobody listens any more, the reply is dropped, which is an answer as well.
        let _ = self.0.send(reply);
        answer
    }
}

impl Answering {
    /// What `work` comes to; whoever asks meanwhile is answered as long as this is polled.
    pub(super) async fn during<T>(mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                // Nobody waits for the answer where its receiver is gone.
                Some(reply) = self.0.recv() => drop(reply.send(())),
            }
        }
    }
}
