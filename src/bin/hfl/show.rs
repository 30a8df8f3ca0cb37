//! Human-readable numbers, and how much is said.

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};

/// `1.50 MiB`.
pub fn bytes(n: u64) -> String {
    HumanBytes(n).to_string()
}

/// `1,234,567`.
pub fn count(n: u64) -> String {
    HumanCount(n).to_string()
}

/// `42 s`, `3 min 20 s`, `2 h 5 min`.
pub fn seconds(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

/// Level of output while a command works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// Steps, and a bar on a terminal.
    Normal,
    /// Every warning and step, with numbers.
    Verbose,
}

impl Verbosity {
    /// From `-q` and `-v`.
    pub fn of(quiet: bool, verbose: bool) -> Self {
        match (quiet, verbose) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Verbose,
            (false, false) => Self::Normal,
        }
    }
}
