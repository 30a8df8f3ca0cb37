//! Failover and hedging: a block from whichever mirror has it first.
//!
//! The best mirror is asked. When it fails, the next one is, at once; when it is only slow, the next one is asked as
//! well, and the first good answer counts. A read ends when all have failed. As long as one neither fails nor answers, as
//! one does that trickles, those that failed are asked again now and then: no mirror can hold a read that another one
//! would answer.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep_until;

use super::ranking::{Ranking, RequestGuard};
use crate::format::index::BlockRow;
use crate::repo::{BlockSource, Fetched, ReadError};
use crate::store::{StoreError, StoreErrorKind};

/// Reads that ask more than one mirror, at the same time: where more are slow than that, the network is, and more
/// requests only make it slower. Such a read goes on to as many mirrors as it takes, so that it ends as soon as one of
/// them is good, and makes room for the next: whoever waits longest.
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
    /// The mirrors in the order of their names in `ranking`.
    pub fn new(mirrors: Vec<S>, ranking: Arc<Ranking>) -> Self {
        let mirrors = mirrors.into_iter().map(Arc::new).collect();
        Self { mirrors, ranking, hedges: Semaphore::new(HEDGED_MAX), hedged: AtomicU64::new(0) }
    }

    /// How the mirrors stand.
    pub fn ranking(&self) -> &Arc<Ranking> {
        &self.ranking
    }

    /// How often another mirror was asked because one was slow.
    pub fn hedged(&self) -> u64 {
        self.hedged.load(Relaxed)
    }

    /// Measures the first `count` mirrors, where there is a choice, by a block that nobody waits for.
    pub async fn probe_first(&self, count: usize, row: &BlockRow) {
        let mut probes = JoinSet::new();
        let count = if self.mirrors.len() == 1 { 0 } else { count.min(self.mirrors.len()) };
        for mirror in 0..count {
            probes.spawn(ask(Arc::clone(&self.mirrors[mirror]), self.ranking.depart(mirror), *row));
        }
        while probes.join_next().await.is_some() {}
    }

    /// Measures a mirror of which nothing was heard for a while, in the background.
    fn probe_another(&self, asked: usize, row: &BlockRow) {
        if let Some(seat) = self.ranking.probe(asked) {
            tokio::spawn(ask(Arc::clone(&self.mirrors[seat.mirror()]), seat, *row));
        }
    }
}

/// Asks one mirror and writes down what came of it.
async fn ask<S: BlockSource>(mirror: Arc<S>, seat: RequestGuard, row: BlockRow) -> (usize, Result<Fetched, ReadError>) {
    let outcome = mirror.fetch(&row).await;
    let at = seat.mirror();
    seat.tell(&outcome);
    (at, outcome)
}

/// One read, and its requests.
struct Read<'a, S> {
    race: &'a Hedged<S>,
    row: BlockRow,
    racing: JoinSet<(usize, Result<Fetched, ReadError>)>,
    /// How often each mirror was asked, and whether it has not answered yet.
    asked: Vec<(u32, bool)>,
    /// When another one is asked although none has failed.
    impatient: tokio::time::Instant,
    /// How long those that have failed are left alone once all were asked.
    rest: Duration,
    hedge: Option<SemaphorePermit<'a>>,
    /// The failures, of which the most telling is told.
    failed: Option<ReadError>,
}

impl<'a, S: BlockSource + 'static> Read<'a, S> {
    fn new(race: &'a Hedged<S>, row: &BlockRow) -> Self {
        let (racing, asked) = (JoinSet::new(), vec![(0, false); race.mirrors.len()]);
        let (impatient, rest) = (tokio::time::Instant::now(), race.ranking.pace().hedge_after);
        Self { race, row: *row, racing, asked, impatient, rest, hedge: None, failed: None }
    }

    /// The mirror to ask next: one that was asked least, of these the best.
    fn next(&self) -> Option<usize> {
        let order = self.race.ranking.order(Instant::now()).into_iter();
        order.filter(|&at| !self.asked[at].1).min_by_key(|&at| self.asked[at].0)
    }

    /// Whether there is a mirror that is not being asked at this moment.
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

    /// Returns when it is time to ask another mirror although none has failed.
    async fn hedge(impatient: tokio::time::Instant, race: &'a Hedged<S>, hedge: &mut Option<SemaphorePermit<'a>>) {
        sleep_until(impatient).await;
        if hedge.is_none() {
            *hedge = race.hedges.acquire().await.ok();
        }
    }

    /// Takes an answer; the block if it is that. After a failure, one that was not asked yet is asked at once.
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
