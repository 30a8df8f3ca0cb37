//! Where an operation stands: what its events add up to, and how that is said.

use std::collections::BTreeMap;
use std::time::Instant;

use hfl::SCHEMA;
use hfl::progress::{Event, Fate, Origin, Phase};
use serde_json::json;

use crate::show::{bytes, count, seconds};

/// Where an operation stands.
#[derive(Debug)]
pub struct Standing {
    /// `None` before the first phase.
    pub phase: Option<Phase>,
    /// When the phase, or its work on an image, began.
    pub since: Instant,
    /// What the phase waits for, if that was said.
    pub step: Option<String>,
    /// Size of the image, if known.
    pub total: Option<u64>,
    /// Bytes of the image that were read.
    pub read: u64,
    hole: u64,
    kept: u64,
    moved: u64,
    seed: u64,
    fetched: u64,
    pub read_back: u64,
    pub new_blocks: u64,
    pub known_blocks: u64,
    pub mirrors: BTreeMap<String, Traffic>,
}

/// What goes to a mirror, or is checked there, in bytes.
#[derive(Debug, Default)]
pub struct Traffic {
    pub to_send: u64,
    pub sent: u64,
    pub to_check: u64,
    pub checked: u64,
}

impl Standing {
    pub fn new() -> Self {
        Self {
            phase: None,
            since: Instant::now(),
            step: None,
            total: None,
            read: 0,
            hole: 0,
            kept: 0,
            moved: 0,
            seed: 0,
            fetched: 0,
            read_back: 0,
            new_blocks: 0,
            known_blocks: 0,
            mirrors: BTreeMap::new(),
        }
    }

    /// Adds an event.
    pub fn note(&mut self, event: &Event<'_>) {
        match *event {
            Event::Phase(phase) => {
                (self.phase, self.since, self.step) = (Some(phase), Instant::now(), None);
            }
            Event::Step(text) => self.step = Some(text.to_owned()),
            Event::Start { image_bytes } => {
                (self.total, self.read, self.since) = (image_bytes, 0, Instant::now());
            }
            Event::Read { bytes } => self.read += bytes,
            Event::Block { fate: Fate::New, .. } => self.new_blocks += 1,
            Event::Block { .. } => self.known_blocks += 1,
            Event::ToSend { mirror, bytes } => self.traffic(mirror).to_send += bytes,
            Event::Sent { mirror, bytes } => self.traffic(mirror).sent += bytes,
            Event::ToCheck { mirror, bytes } => self.traffic(mirror).to_check += bytes,
            Event::Checked { mirror, bytes } => self.traffic(mirror).checked += bytes,
            Event::Restored { bytes, from } => {
                *match from {
                    Origin::Hole => &mut self.hole,
                    Origin::Kept => &mut self.kept,
                    Origin::Moved => &mut self.moved,
                    Origin::Seed => &mut self.seed,
                    Origin::Fetched => &mut self.fetched,
                } += bytes;
            }
            Event::ReadBack { bytes } => self.read_back += bytes,
            Event::Warning(_) => {}
        }
    }

    fn traffic(&mut self, mirror: &str) -> &mut Traffic {
        self.mirrors.entry(mirror.to_owned()).or_default()
    }

    /// Bytes of the image that are done.
    fn done(&self) -> u64 {
        self.read + self.hole + self.kept + self.moved + self.seed + self.fetched
    }

    /// What this phase has done, and of how much, if it has a measure.
    pub fn measure(&self) -> Option<(u64, Option<u64>)> {
        match self.phase? {
            Phase::Unpack | Phase::Read | Phase::Deltas | Phase::Build => Some((self.read, self.total)),
            Phase::Check | Phase::Move | Phase::Seed | Phase::Fetch => Some((self.done(), self.total)),
            Phase::Verify => Some((self.read_back, self.total)),
            _ => None,
        }
        .filter(|(done, total)| *done > 0 || total.is_some())
    }

    /// What it does now, for people.
    pub fn what(&self) -> &str {
        self.step.as_deref().unwrap_or_else(|| self.phase.map_or("starting", Phase::text))
    }

    /// As a line for programs.
    pub fn json(&self) -> String {
        let mirrors: serde_json::Map<String, serde_json::Value> = self
            .mirrors
            .iter()
            .map(|(name, m)| {
                let traffic =
                    json!({ "to_send": m.to_send, "sent": m.sent, "to_check": m.to_check, "checked": m.checked });
                (name.clone(), traffic)
            })
            .collect();
        json!({
            "schema": SCHEMA,
            "phase": self.phase.map_or("open", Phase::name),
            "done": self.done(),
            "total": self.total,
            "hole": self.hole,
            "kept": self.kept,
            "moved": self.moved,
            "seed": self.seed,
            "fetched": self.fetched,
            "read_back": self.read_back,
            "blocks": { "new": self.new_blocks, "known": self.known_blocks },
            "mirrors": mirrors,
        })
        .to_string()
    }

    /// As a line for people, with figures.
    pub fn line(&self) -> String {
        let mut line = match self.measure() {
            Some((done, Some(total))) => format!("{}: {} of {}", self.what(), bytes(done), bytes(total)),
            Some((done, None)) => format!("{}: {}", self.what(), bytes(done)),
            None => format!("{}: {}", self.what(), seconds(self.since.elapsed())),
        };
        if self.counts_blocks() {
            line += &format!("; blocks: {} new, {} known", count(self.new_blocks), count(self.known_blocks));
        }
        for (name, traffic) in &self.mirrors {
            line += &format!("; {name}: {}", traffic.text());
        }
        line
    }

    /// Whether blocks of an image are being counted.
    pub fn counts_blocks(&self) -> bool {
        self.new_blocks + self.known_blocks > 0
    }
}

impl Traffic {
    /// For people. There is no percentage of what is sent, since more may come.
    pub fn text(&self) -> String {
        let sent = || match self.to_send.saturating_sub(self.sent) {
            0 => format!("{} sent", bytes(self.sent)),
            waiting => format!("{} sent, {} waiting", bytes(self.sent), bytes(waiting)),
        };
        let checked = || format!("{} of {} checked", bytes(self.checked), bytes(self.to_check));
        match (self.to_check, self.to_send) {
            (0, _) => sent(),
            (_, 0) => checked(),
            _ => format!("{}, {}", checked(), sent()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_add_up() {
        let mut standing = Standing::new();
        let mirror = "tokyo";
        for event in [
            Event::Phase(Phase::Read),
            Event::Start { image_bytes: Some(4096) },
            Event::Read { bytes: 1024 },
            Event::Block { bytes: 512, fate: Fate::New },
            Event::Block { bytes: 512, fate: Fate::Again },
            Event::ToSend { mirror, bytes: 300 },
            Event::Sent { mirror, bytes: 100 },
        ] {
            standing.note(&event);
        }
        let expected =
            "reading the image: 1.00 KiB of 4.00 KiB; blocks: 1 new, 1 known; tokyo: 100 B sent, 200 B waiting";
        assert_eq!(standing.line(), expected);
        let line: serde_json::Value = serde_json::from_str(&standing.json()).unwrap();
        assert_eq!((&line["phase"], &line["done"], &line["total"]), (&json!("read"), &json!(1024), &json!(4096)));
        assert_eq!(line["mirrors"]["tokyo"]["sent"], 100);
        standing.note(&Event::Phase(Phase::Switch));
        assert!(standing.line().starts_with("switching the heads: 0 s;"), "{}", standing.line());
    }
}
