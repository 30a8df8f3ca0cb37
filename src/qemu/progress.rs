//! Determines the state of a machine from its console output.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::Options;
use super::machine::Machine;

/// Fatal error messages of the miniroot and of the kernel.
const SIGNS_OF_DEATH: [&str; 2] = ["hfl: cannot boot: ", "Kernel panic - not syncing: "];
/// Message of the miniroot just before it starts the image's own init.
const ROOT_SIGN: &str = "is the root file system, ";
/// A machine without output for this long is considered not running.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// How a boot ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The marker was seen.
    Reached,
    /// The marker was not seen; contains the reason.
    Failed(String),
}

/// Monitors a boot.
pub struct Watch<'a> {
    options: &'a Options,
    begun: Instant,
    root: Option<Duration>,
}

impl<'a> Watch<'a> {
    /// Starts the clock.
    pub fn new(options: &'a Options) -> Self {
        Self { options, begun: Instant::now(), root: None }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Time until the miniroot handed over to the image's own init.
    pub fn root(&self) -> Option<Duration> {
        self.root
    }

    /// Whether the machine failed to start: it has ended or timed out without any output.
    pub fn is_stuck(&self, machine: &Machine, exited: Option<ExitStatus>) -> bool {
        machine.is_silent() && (exited.is_some() || self.elapsed() > SILENT_MAX)
    }

    /// Returns how the boot ended, once that is certain.
    pub fn look(&mut self, machine: &Machine, exited: Option<ExitStatus>) -> Option<Ended> {
        if self.root.is_none() && machine.has_shown(ROOT_SIGN) {
            self.root = Some(self.elapsed());
        }
        let marker = &self.options.marker;
        if machine.has_shown(marker) {
            return Some(Ended::Reached);
        }
        if let Some(why) = SIGNS_OF_DEATH.iter().find_map(|sign| machine.said_after(sign)) {
            return Some(Ended::Failed(why));
        }
        if let Some(status) = exited {
            let how = if status.success() { String::new() } else { format!(": {status}; {}", machine.error()) };
            return Some(Ended::Failed(format!("the machine ended before it showed `{marker}`{how}")));
        }
        let timeout = self.options.timeout;
        (self.elapsed() >= timeout).then(|| {
            let whole = humantime::format_duration(Duration::from_secs(timeout.as_secs().max(1)));
            Ended::Failed(format!("it did not show `{marker}` in {whole}"))
        })
    }
}
