//! Failover and hedging: a block from whichever mirror has it first.
//!
//! The best mirror is asked. When it fails, the next one is, at once; when it is only slow, the next one is asked as
//! well, and the first good answer counts. Every mirror gets one chance in each read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};

use super::roster::{Roster, Seat};
use crate::block::Block;
use crate::index::BlockRow;
use crate::read::{BlockSource, Fetched, ReadError};
use crate::store::{StoreError, StoreErrorKind};

/// Second requests under way at the same time: where more are slow than that, the network is, and more requests only
/// make it slower.
const HEDGES_MAX: usize = 8;
/// How soon a hedge that was one too many is thought of again.
const HEDGE_AGAIN: Duration = Duration::from_millis(200);

/// Several sources as one.
#[derive(Debug)]
pub struct Race<S> {
    mirrors: Vec<Arc<S>>,
    roster: Arc<Roster>,
    hedges: Arc<Semaphore>,
    hedged: AtomicU64,
}

impl<S: BlockSource + 'static> Race<S> {
    /// The mirrors in the order of their names in `roster`.
    pub fn new(mirrors: Vec<S>, roster: Arc<Roster>) -> Self {
        let mirrors = mirrors.into_iter().map(Arc::new).collect();
        Self { mirrors, roster, hedges: Arc::new(Semaphore::new(HEDGES_MAX)), hedged: AtomicU64::new(0) }
    }

    /// How the mirrors stand.
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// How often a second mirror was asked because the first was slow.
    pub fn hedged(&self) -> u64 {
        self.hedged.load(Relaxed)
    }

    /// Measures the first `count` mirrors, where there is a choice, by a block that nobody waits for.
    pub async fn probe_first(&self, count: usize, row: &BlockRow) {
        let mut probes = JoinSet::new();
        let count = if self.mirrors.len() == 1 { 0 } else { count.min(self.mirrors.len()) };
        for mirror in 0..count {
            probes.spawn(ask(Arc::clone(&self.mirrors[mirror]), self.roster.depart(mirror), *row, None));
        }
        while probes.join_next().await.is_some() {}
    }

    /// Measures a mirror of which nothing was heard for a while, in the background.
    fn probe_another(&self, asked: usize, row: &BlockRow) {
        if let Some(seat) = self.roster.probe(asked) {
            tokio::spawn(ask(Arc::clone(&self.mirrors[seat.mirror()]), seat, *row, None));
        }
    }
}

/// Asks one mirror and writes down what came of it.
async fn ask<S: BlockSource>(
    mirror: Arc<S>,
    seat: Seat,
    row: BlockRow,
    _hedge: Option<OwnedSemaphorePermit>,
) -> Result<Fetched, ReadError> {
    let outcome = mirror.fetch(&row).await;
    seat.tell(&outcome);
    outcome
}

/// The failures of one read, of which the most telling is told.
fn add(failed: &mut Option<ReadError>, outcome: Result<Result<Fetched, ReadError>, JoinError>) -> Option<Fetched> {
    let error = match outcome {
        Ok(Ok(fetched)) => return Some(fetched),
        Ok(Err(e)) => e,
        Err(e) => StoreError::whole("a request", StoreErrorKind::Other, e.to_string()).into(),
    };
    error.add_to(failed);
    None
}

#[async_trait]
impl<S: BlockSource + 'static> BlockSource for Race<S> {
    async fn block(&self, row: &BlockRow) -> Result<Arc<Block>, ReadError> {
        Ok(self.fetch(row).await?.block)
    }

    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        let mut order = self.roster.order(Instant::now()).into_iter().peekable();
        let (mut racing, mut failed) = (JoinSet::new(), None);
        let depart = |racing: &mut JoinSet<_>, at: usize, hedge| {
            racing.spawn(ask(Arc::clone(&self.mirrors[at]), self.roster.depart(at), *row, hedge));
            tokio::time::Instant::now() + self.roster.hedge_after(at)
        };
        let first = order.next().ok_or_else(ReadError::no_source)?;
        let mut impatient = depart(&mut racing, first, None);
        self.probe_another(first, row);
        loop {
            tokio::select! {
                Some(outcome) = racing.join_next() => {
                    if let Some(fetched) = add(&mut failed, outcome) {
                        return Ok(fetched);
                    }
                    match order.next() {
                        Some(next) => impatient = depart(&mut racing, next, None),
                        None if racing.is_empty() => return Err(failed.unwrap_or_else(ReadError::no_source)),
                        None => {}
                    }
                }
                () = tokio::time::sleep_until(impatient), if order.peek().is_some() => {
                    match (Arc::clone(&self.hedges).try_acquire_owned(), order.peek().copied()) {
                        (Ok(permit), Some(next)) => {
                            order.next();
                            self.hedged.fetch_add(1, Relaxed);
                            impatient = depart(&mut racing, next, Some(permit));
                        }
                        _ => impatient += HEDGE_AGAIN,
                    }
                }
            }
        }
    }
}
