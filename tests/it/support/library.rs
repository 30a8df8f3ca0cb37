//! Operations of the library on a lab, with another clock or other stores than the program has.

use std::fs;
use std::time::Duration;

use hfl::Error;
use hfl::config::Mirrors;
use hfl::format::time::Timestamp;
use hfl::progress::Watch;
use hfl::publish::{GcOptions, GcReport, Keyring, Repository, gc};
use hfl::system::host::{Host, ThisHost};

use super::lab::Lab;

/// This machine with a wrong wall clock.
#[derive(Debug)]
pub struct OtherClock {
    /// How far the clock is ahead; negative where it is behind.
    pub ahead_seconds: i64,
}

impl Host for OtherClock {
    fn boot(&self) -> Duration {
        ThisHost.boot()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix(ThisHost.now().unix().saturating_add_signed(self.ahead_seconds))
    }

    fn random(&self) -> u64 {
        ThisHost.random()
    }
}

/// The repository of a lab's mirrors.toml, with the lab's keys and without a record of what was published.
pub fn repository(lab: &Lab) -> Repository {
    let mirrors = Mirrors::parse(&fs::read_to_string(lab.path("mirrors.toml")).unwrap()).unwrap();
    let keyring = Keyring { directory: Some(lab.path("home/.config/hfl/keys")), ..Keyring::default() };
    Repository::new(mirrors, lab.path("."), Some(keyring))
}

/// Collects: one version of each image is kept, with a grace period of seven days.
pub fn keep_one(repository: &Repository) -> Result<GcReport, Error> {
    let (images, retire) = (Vec::new(), Vec::new());
    let options = GcOptions { images, keep: 1, keep_days: 0, retire, grace_days: 7, more_than_half: true };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(gc(repository, &options, &Watch::silent()))
}
