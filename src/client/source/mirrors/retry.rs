//! Retries when every mirror has failed: forever if the image holds a root file system, for a limited time otherwise.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::client::notice::{Notice, Observer};
use crate::format::block::BlockRow;
use crate::repo::{BlockSource, Fetched, ReadError};
use crate::store::{StoreError, StoreErrorKind};

/// The first pause between two rounds; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause: short, so that mirrors that return are noticed soon.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Reads that wait longer than this are reported.
const WORTH_TELLING: Duration = Duration::from_secs(2);

/// What happens to a read that no mirror answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It waits until a mirror answers.
    Hard,
    /// It fails after this time.
    Soft(Duration),
    /// It fails at once.
    Once,
}

/// A source with retries.
#[derive(Debug)]
pub struct Persistent<S> {
    inner: S,
    mode: Mode,
    observer: Arc<dyn Observer>,
}

impl<S> Persistent<S> {
    /// Retries `inner` as `mode` specifies.
    pub fn new(inner: S, mode: Mode, observer: Arc<dyn Observer>) -> Self {
        Self { inner, mode, observer }
    }
}

impl<S: BlockSource> Persistent<S> {
    /// Runs rounds until one succeeds; the last failure is left in `failed`, in case of a timeout.
    async fn rounds(&self, row: &BlockRow, failed: &mut Option<ReadError>) -> Fetched {
        let (started, mut pause, mut told) = (Instant::now(), FIRST_PAUSE, false);
        loop {
            match self.inner.fetch(row).await {
                Ok(fetched) => {
                    if told {
                        self.observer.notice(Notice::Resumed { after: started.elapsed() });
                    }
                    return fetched;
                }
                Err(error) => {
                    if !told && started.elapsed() >= WORTH_TELLING {
                        self.observer.notice(Notice::Waiting { error: error.clone() });
                        told = true;
                    }
                    *failed = Some(error);
                }
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// A random time between half of `pause` and all of it, so that many readers and clients do not retry at once.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) % 1024;
    pause / 2 + (pause / 2).mul_f64(random as f64 / 1024.0)
}

#[async_trait]
impl<S: BlockSource> BlockSource for Persistent<S> {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        let mut failed = None;
        let limit = match self.mode {
            Mode::Soft(limit) => limit,
            Mode::Hard => return Ok(self.rounds(row, &mut failed).await),
            Mode::Once => return self.inner.fetch(row).await,
        };
        let in_time = tokio::time::timeout(limit, self.rounds(row, &mut failed)).await;
        in_time.map_err(|_| {
            let late = || StoreError::whole("the mirrors", StoreErrorKind::Unreachable, "no answer in time").into();
            failed.unwrap_or_else(late)
        })
    }
}
