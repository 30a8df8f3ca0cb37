//! What is known of one mirror: how fast it is, and whether it is worth asking.
//!
//! A mirror is left alone after two failures in a row, at once where it asks for that or never worked before, and for
//! twice as long each time it fails on its return. An object that it does not have yet is no failure: it is only asked after the others for a
//! while. Whatever it was, one good block makes up for it.

use std::time::{Duration, Instant};

use super::Pace;
use crate::repo::{ReadError, ReadErrorKind};
use crate::store::StoreErrorKind;

/// What a new measurement counts against all before it, where one follows the other at once.
const WEIGHT: f64 = 0.15;
/// A measurement of so long ago counts little.
const MEMORY: Duration = Duration::from_secs(10);
/// Failures in a row that are one too many.
const STRIKES: u32 = 2;

/// What is to be thought of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does not have the object: it is behind the others.
    Behind,
    /// It wants to be left alone for so long.
    Busy(Duration),
    /// It cannot be reached, or gives nonsense.
    Broken,
}

impl From<&ReadError> for Fault {
    fn from(error: &ReadError) -> Self {
        match (error.kind(), error.wait()) {
            (_, Some(wait)) => Fault::Busy(wait),
            // A bucket that nobody may list answers 403 for what is not there.
            (ReadErrorKind::Store(StoreErrorKind::NotFound | StoreErrorKind::Denied), _) => Fault::Behind,
            (ReadErrorKind::Missing, _) => Fault::Behind,
            _ => Fault::Broken,
        }
    }
}

/// Whether a mirror is asked, in the order in which mirrors are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It works.
    Good,
    /// Nothing is known of it yet.
    Unknown,
    /// It lacked an object until a moment ago.
    Behind,
    /// It failed and is left alone.
    Quarantined,
}

/// One mirror's record.
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
    /// Requests under way.
    pub in_flight: u32,
    /// True while one of them is only there to measure.
    pub probing: bool,
    /// Blocks that it gave, and the bytes of their files.
    pub blocks: u64,
    /// See `blocks`.
    pub bytes: u64,
    /// How often it failed.
    pub failures: u64,
    /// How often another mirror was faster, though asked later.
    pub overtaken: u64,
    /// What it did when it failed last.
    pub why: Option<String>,
}

impl MirrorHealth {
    /// Where it stands at `now`.
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

    /// The time it usually takes to a checked block.
    pub fn usual(&self) -> Option<Duration> {
        self.usual_s.map(Duration::from_secs_f64)
    }

    /// When it was last asked for anything.
    pub fn asked(&self) -> Option<Instant> {
        self.asked
    }

    /// Bytes a second while it answers.
    pub fn bytes_per_s(&self) -> Option<f64> {
        self.bytes_per_s
    }

    /// When its quarantine is over.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether it should be asked for a block that nobody waits for: its quarantine is over, or what is known of it is
    /// old.
    pub fn is_due(&self, now: Instant, pace: &Pace) -> bool {
        let rested = self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= pace.probe_after);
        !self.probing && self.until.map_or(rested, |until| now >= until)
    }

    /// It is asked for a block.
    pub fn departed(&mut self, now: Instant) {
        self.in_flight += 1;
        self.asked = Some(now);
    }

    /// It gave a checked block whose file has so many bytes.
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

    /// Another mirror was faster; this one would have taken longer than until `now`.
    pub fn was_overtaken(&mut self, started: Instant, now: Instant) {
        self.overtaken += 1;
        let took = now.saturating_duration_since(started);
        if self.usual().is_none_or(|usual| took > usual) {
            self.measure(took, now);
        }
    }

    /// It failed.
    pub fn failed(&mut self, started: Instant, now: Instant, fault: Fault, why: String, pace: &Pace) {
        self.why = Some(why);
        if fault == Fault::Behind {
            self.behind_until = Some(now + pace.quarantine);
            // It answers, so it is no longer what it was in quarantine for.
            (self.strikes, self.until) = (0, None);
            return;
        }
        self.failures += 1;
        // What was asked before the last failure, or before its quarantine was over, says nothing new.
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

    /// A moving average in time: the longer ago the last measurement, the more the new one counts.
    fn measure(&mut self, took: Duration, now: Instant) {
        let age = self.measured.map_or(f64::INFINITY, |at| now.saturating_duration_since(at).as_secs_f64());
        let weight = (1.0 - (-age / MEMORY.as_secs_f64()).exp()).max(WEIGHT);
        let took = took.as_secs_f64();
        self.usual_s = Some(self.usual_s.map_or(took, |usual| usual + weight * (took - usual)));
        self.measured = Some(now);
    }
}
