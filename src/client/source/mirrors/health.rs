//! Health of one mirror: how fast it is, and whether it is worth a request.
//!
//! A mirror is quarantined after two failures in a row. One failure is enough if the mirror asks to be left alone or
//! never worked before. The time doubles with each failure on its return. A missing object is not a failure: the mirror
//! is behind, and only ranked after the others for a while. One good block clears all of it.

use std::time::{Duration, Instant};

use super::Pace;
use crate::repo::{ReadError, ReadErrorKind};
use crate::store::StoreErrorKind;

/// The least weight of a new measurement in the moving average.
const WEIGHT: f64 = 0.15;
/// The time constant of the moving average.
const MEMORY: Duration = Duration::from_secs(10);
/// Consecutive failures that lead to quarantine.
const STRIKES: u32 = 2;

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The object is missing: the mirror is behind the others.
    Behind,
    /// The mirror asks to be left alone for this long.
    Busy(Duration),
    /// The mirror is unreachable, or its answers are invalid.
    Broken,
}

impl From<&ReadError> for Fault {
    fn from(error: &ReadError) -> Self {
        match (error.kind(), error.wait()) {
            (_, Some(wait)) => Fault::Busy(wait),
            // A bucket without permission to list answers 403 for missing objects.
            (ReadErrorKind::Store(StoreErrorKind::NotFound | StoreErrorKind::Denied), _) => Fault::Behind,
            (ReadErrorKind::Missing, _) => Fault::Behind,
            _ => Fault::Broken,
        }
    }
}

/// State of a mirror, in order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It works.
    Good,
    /// Not measured yet.
    Unknown,
    /// It recently lacked an object.
    Behind,
    /// It failed, and gets no requests for a while.
    Quarantined,
}

/// Health of one mirror.
#[derive(Debug, Clone, Default)]
pub struct MirrorHealth {
    usual_s: Option<f64>,
    bytes_per_s: Option<f64>,
    measured: Option<Instant>,
    asked: Option<Instant>,
    strikes: u32,
    struck: Option<Instant>,
    quarantines: u32,
    until: Option<Instant>,
    behind_until: Option<Instant>,
    /// Requests in flight.
    pub in_flight: u32,
    /// Whether one of them is a probe.
    pub probing: bool,
    /// Number of blocks delivered.
    pub blocks: u64,
    /// Compressed size of the blocks delivered, in bytes.
    pub bytes: u64,
    /// Number of failures.
    pub failures: u64,
    /// How often another mirror answered first, though asked later.
    pub overtaken: u64,
    /// Error message of the last failure.
    pub why: Option<String>,
}

impl MirrorHealth {
    /// The state at `now`.
    pub fn state(&self, now: Instant) -> State {
        if self.until.is_some() {
            State::Quarantined
        } else if self.behind_until.is_some_and(|until| now < until) {
            State::Behind
        } else if self.usual_s.is_none() {
            State::Unknown
        } else {
            State::Good
        }
    }

    /// The average time to a verified block.
    pub fn usual(&self) -> Option<Duration> {
        self.usual_s.map(Duration::from_secs_f64)
    }

    /// Time of the last request.
    pub fn asked(&self) -> Option<Instant> {
        self.asked
    }

    /// Average transfer rate, in bytes per second.
    pub fn bytes_per_s(&self) -> Option<f64> {
        self.bytes_per_s
    }

    /// End of the quarantine, if in quarantine.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether the mirror is due for a probe: its quarantine is over, or its measurements are old.
    pub fn is_due(&self, now: Instant, pace: &Pace) -> bool {
        let rested = self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= pace.probe_after);
        !self.probing && self.until.map_or(rested, |until| now >= until)
    }

    /// Records a request.
    pub fn departed(&mut self, now: Instant) {
        self.in_flight += 1;
        self.asked = Some(now);
    }

    /// Records a verified block with a compressed size of `bytes`.
    pub fn arrived(&mut self, started: Instant, now: Instant, bytes: u64) {
        let took = now.saturating_duration_since(started);
        self.measure(took, now);
        let rate = bytes as f64 / took.as_secs_f64().max(1e-6);
        self.bytes_per_s = Some(self.bytes_per_s.map_or(rate, |usual| usual + WEIGHT * (rate - usual)));
        self.blocks += 1;
        self.bytes += bytes;
        (self.strikes, self.quarantines) = (0, 0);
        (self.until, self.behind_until) = (None, None);
    }

    /// Records that another mirror answered first; this one had taken until `now` without an answer.
    pub fn was_overtaken(&mut self, started: Instant, now: Instant) {
        self.overtaken += 1;
        let took = now.saturating_duration_since(started);
        if self.usual().is_none_or(|usual| took > usual) {
            self.measure(took, now);
        }
    }

    /// Records a failure.
    pub fn failed(&mut self, started: Instant, now: Instant, fault: Fault, why: String, pace: &Pace) {
        self.why = Some(why);
        if fault == Fault::Behind {
            self.behind_until = Some(now + pace.quarantine);
            // It answers, so the reason for its quarantine is gone.
            (self.strikes, self.until) = (0, None);
            return;
        }
        self.failures += 1;
        // Requests from before the last failure, or from before the end of the quarantine, are no new evidence.
        let is_new = self.struck.is_none_or(|struck| started >= struck);
        if !is_new || self.until.is_some_and(|until| started < until) {
            return;
        }
        (self.struck, self.strikes) = (Some(now), self.strikes + 1);
        let unproved = self.until.is_some() || self.usual_s.is_none();
        match fault {
            Fault::Busy(wait) => self.until = Some(now + wait.min(pace.quarantine_max)),
            _ if unproved || self.strikes >= STRIKES => {
                let times = 1u32 << self.quarantines.min(16);
                self.until = Some(now + (pace.quarantine * times).min(pace.quarantine_max));
                self.quarantines += 1;
            }
            _ => {}
        }
    }

    /// Moving average over time: the older the last measurement, the more the new one counts.
    fn measure(&mut self, took: Duration, now: Instant) {
        let age = self.measured.map_or(f64::INFINITY, |at| now.saturating_duration_since(at).as_secs_f64());
        let weight = (1.0 - (-age / MEMORY.as_secs_f64()).exp()).max(WEIGHT);
        let took = took.as_secs_f64();
        self.usual_s = Some(self.usual_s.map_or(took, |usual| usual + weight * (took - usual)));
        self.measured = Some(now);
    }
}
