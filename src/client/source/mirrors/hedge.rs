//! Failover and hedging: a block from whichever mirror delivers it first.
//!
//! The best mirror is asked. When it fails, the next one is asked at once; when it is slow, the next one is asked as
//! well, and the first good answer counts. A read fails when all mirrors have failed. While one mirror neither fails
//! nor answers (such as one that trickles), those that failed are asked again now and then. So no mirror can block a
//! read that another one could answer.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep_until;

use super::ranking::{Ranking, RequestGuard};
use crate::format::block::BlockRow;
use crate::repo::{BlockSource, Fetched, ReadError};
use crate::store::{StoreError, StoreErrorKind};

/// Limit of concurrent hedged reads: if more reads are slow, the network is slow, and more requests only make it
/// slower. A hedged read asks as many mirrors as it takes, so it ends as soon as one of them is good. Its permit then
/// goes to the read that has waited longest.
const HEDGED_MAX: usize = 8;

/// Several sources as one.
#[derive(Debug)]
pub struct Hedged<S> {
    mirrors: Vec<Arc<S>>,
    ranking: Arc<Ranking>,
    hedges: Semaphore,
    hedged: AtomicU64,
}

impl<S: BlockSource + 'static> Hedged<S> {
    /// Creates the source; `mirrors` has the order of the names in `ranking`.
    pub fn new(mirrors: Vec<S>, ranking: Arc<Ranking>) -> Self {
        let mirrors = mirrors.into_iter().map(Arc::new).collect();
        Self { mirrors, ranking, hedges: Semaphore::new(HEDGED_MAX), hedged: AtomicU64::new(0) }
    }

    /// The ranking of the mirrors.
    pub fn ranking(&self) -> &Arc<Ranking> {
        &self.ranking
    }

    /// Number of hedged requests.
    pub fn hedged(&self) -> u64 {
        self.hedged.load(Relaxed)
    }

    /// Measures the first `count` mirrors with a block that no reader waits for; does nothing for a single mirror.
    pub async fn probe_first(&self, count: usize, row: &BlockRow) {
        let mut probes = JoinSet::new();
        let count = if self.mirrors.len() == 1 { 0 } else { count.min(self.mirrors.len()) };
        for mirror in 0..count {
            probes.spawn(ask(Arc::clone(&self.mirrors[mirror]), self.ranking.depart(mirror), *row));
        }
        while probes.join_next().await.is_some() {}
    }

    /// Probes a mirror without recent requests, in the background.
    fn probe_another(&self, asked: usize, row: &BlockRow) {
        if let Some(seat) = self.ranking.probe(asked) {
            tokio::spawn(ask(Arc::clone(&self.mirrors[seat.mirror()]), seat, *row));
        }
    }
}

/// Sends a request to one mirror and records the outcome.
async fn ask<S: BlockSource>(mirror: Arc<S>, seat: RequestGuard, row: BlockRow) -> (usize, Result<Fetched, ReadError>) {
    let outcome = mirror.fetch(&row).await;
    let at = seat.mirror();
    seat.tell(&outcome);
    (at, outcome)
}

/// A read, and its requests.
struct Read<'a, S> {
    race: &'a Hedged<S>,
    row: BlockRow,
    racing: JoinSet<(usize, Result<Fetched, ReadError>)>,
    /// For each mirror: the number of requests, and whether one is in flight.
    asked: Vec<(u32, bool)>,
    /// When to hedge.
    impatient: tokio::time::Instant,
    /// How long to wait before a failed mirror is asked again, once all have been asked.
    rest: Duration,
    hedge: Option<SemaphorePermit<'a>>,
    /// The most telling failure so far.
    failed: Option<ReadError>,
}

impl<'a, S: BlockSource + 'static> Read<'a, S> {
    fn new(race: &'a Hedged<S>, row: &BlockRow) -> Self {
        let (racing, asked) = (JoinSet::new(), vec![(0, false); race.mirrors.len()]);
        let (impatient, rest) = (tokio::time::Instant::now(), race.ranking.pace().hedge_after);
        Self { race, row: *row, racing, asked, impatient, rest, hedge: None, failed: None }
    }

    /// The next mirror to ask: of those asked least often, the best.
    fn next(&self) -> Option<usize> {
        let order = self.race.ranking.order(Instant::now()).into_iter();
        order.filter(|&at| !self.asked[at].1).min_by_key(|&at| self.asked[at].0)
    }

    /// Whether there is a mirror without a request in flight.
    fn may_ask(&self) -> bool {
        self.asked.iter().any(|(_, waits)| !waits)
    }

    fn depart(&mut self, at: usize) {
        let pace = self.race.ranking.pace();
        let patience = if self.asked[at].0 == 0 {
            self.race.ranking.hedge_after(at)
        } else {
            self.rest = (self.rest * 2).min(pace.attempt_max);
            self.rest
        };
        self.impatient = tokio::time::Instant::now() + patience;
        self.asked[at] = (self.asked[at].0 + 1, true);
        self.racing.spawn(ask(Arc::clone(&self.race.mirrors[at]), self.race.ranking.depart(at), self.row));
    }

    /// Waits until it is time to hedge.
    async fn hedge(impatient: tokio::time::Instant, race: &'a Hedged<S>, hedge: &mut Option<SemaphorePermit<'a>>) {
        sleep_until(impatient).await;
        if hedge.is_none() {
            *hedge = race.hedges.acquire().await.ok();
        }
    }

    /// Takes an answer; returns the block, if any. After a failure, the next mirror not yet asked is asked at once.
    fn take(&mut self, outcome: Result<(usize, Result<Fetched, ReadError>), JoinError>) -> Option<Fetched> {
        let error = match outcome {
            Ok((_, Ok(fetched))) => return Some(fetched),
            Ok((at, Err(e))) => {
                self.asked[at].1 = false;
                e
            }
            Err(e) => StoreError::whole("a request", StoreErrorKind::Other, e.to_string()).into(),
        };
        error.add_to(&mut self.failed);
        match self.next().filter(|&at| self.asked[at].0 == 0) {
            Some(new) => self.depart(new),
            None => self.impatient = self.impatient.max(tokio::time::Instant::now() + self.rest),
        }
        None
    }
}

#[async_trait]
impl<S: BlockSource + 'static> BlockSource for Hedged<S> {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        let mut read = Read::new(self, row);
        let first = read.next().ok_or_else(ReadError::no_source)?;
        read.depart(first);
        self.probe_another(first, row);
        loop {
            tokio::select! {
                Some(outcome) = read.racing.join_next() => {
                    if let Some(fetched) = read.take(outcome) {
                        return Ok(fetched);
                    }
                    if read.racing.is_empty() {
                        return Err(read.failed.unwrap_or_else(ReadError::no_source));
                    }
                }
                () = Read::hedge(read.impatient, self, &mut read.hedge), if read.may_ask() => {
                    if let Some(next) = read.next() {
                        self.hedged.fetch_add(1, Relaxed);
                        read.depart(next);
                    }
                }
            }
        }
    }
}
