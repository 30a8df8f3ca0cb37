//! Decides from its console what has become of a machine.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::Options;
use super::machine::Machine;

/// What the miniroot says when it gives up, and what the kernel says.
const SIGNS_OF_DEATH: [&str; 2] = ["hfl: cannot boot: ", "Kernel panic - not syncing: "];
/// What the miniroot says when the image's own init is next.
const ROOT_SIGN: &str = "is the root file system, ";
/// A machine that has shown nothing for so long does not run.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// How a boot ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The marker was seen.
    Reached,
    /// It was not, and why.
    Failed(String),
}

/// A boot that is being watched.
pub struct Watch<'a> {
    options: &'a Options,
    begun: Instant,
    root: Option<Duration>,
}

impl<'a> Watch<'a> {
    /// It begins now.
    pub fn new(options: &'a Options) -> Self {
        Self { options, begun: Instant::now(), root: None }
    }

    /// How long it has taken.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// When the image's own init was next.
    pub fn root(&self) -> Option<Duration> {
        self.root
    }

    /// Whether the machine does not even begin: it has ended, or is silent, before the first word.
    pub fn is_stuck(&self, machine: &Machine, exited: Option<ExitStatus>) -> bool {
        machine.is_silent() && (exited.is_some() || self.elapsed() > SILENT_MAX)
    }

    /// What has become of it, once that is certain.
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
