//! The signals that end a mount.

use hfl::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::root;

/// The signals that end a mount; `None` if the mount holds a root file system.
pub struct Signals(Option<[tokio::signal::unix::Signal; 3]>);

impl Signals {
    /// Handles the signals from now on, or ignores them.
    pub fn new(root: bool) -> Result<Self, Error> {
        if root {
            root::ignore_signals();
            return Ok(Self(None));
        }
        let listen = |kind| signal(kind).map_err(|e| Error::local(format!("cannot handle signals: {e}")));
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        let [terminate, interrupt, hangup] = kinds.map(listen);
        Ok(Self(Some([terminate?, interrupt?, hangup?])))
    }

    /// Returns when one of the signals arrives.
    pub async fn any(&mut self) {
        let Some([terminate, interrupt, hangup]) = &mut self.0 else { return std::future::pending().await };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
