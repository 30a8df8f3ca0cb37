//! Numbers as a person reads them, and progress on a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hfl::publish::{Event, Progress, Scanned};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// `1.50 MiB`.
pub fn bytes(n: u64) -> String {
    HumanBytes(n).to_string()
}

/// `1,234,567`.
pub fn count(n: u64) -> String {
    HumanCount(n).to_string()
}

/// How much a command tells while it works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verbosity {
    /// Errors alone.
    Quiet,
    /// Steps, and a bar on a terminal.
    Normal,
    /// Every warning and step, with figures.
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

/// Progress on standard error: a bar on a terminal, a line for each step elsewhere.
pub struct Show {
    verbosity: Verbosity,
    bar: ProgressBar,
    step: Mutex<String>,
    new: AtomicU64,
    known: AtomicU64,
    hole: AtomicU64,
}

impl Show {
    /// Progress as `verbosity` asks for it.
    pub fn new(verbosity: Verbosity) -> Self {
        let terminal = io::stderr().is_terminal() && verbosity != Verbosity::Quiet;
        let target = if terminal { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let (new, known, hole) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { verbosity, bar, step: Mutex::default(), new, known, hole }
    }

    fn line(&self, text: &str) {
        self.bar.suspend(|| {
            // Nothing can be done about a standard error that cannot be written to.
            let _ = writeln!(io::stderr(), "{text}");
        });
    }

    fn start(&self, image_bytes: Option<u64>) {
        let template = match image_bytes {
            Some(_) => "{bar:24} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta} {msg}",
            None => "{spinner} {bytes} {bytes_per_sec} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        if let Some(bytes) = image_bytes {
            self.bar.set_length(bytes);
        }
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    fn scanned(&self, bytes: u64, part: Scanned) {
        let counter = match part {
            Scanned::New => &self.new,
            Scanned::Known | Scanned::Again => &self.known,
            Scanned::Hole => &self.hole,
        };
        counter.fetch_add(1, Relaxed);
        self.bar.inc(bytes);
        self.bar.set_message(format!("blocks: {} new, {} known", self.new.load(Relaxed), self.known.load(Relaxed)));
    }
}

impl Progress for Show {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Step(text) => {
                if let Ok(mut step) = self.step.lock() {
                    text.clone_into(&mut step);
                }
                if self.verbosity == Verbosity::Verbose || (self.verbosity == Verbosity::Normal && self.bar.is_hidden())
                {
                    self.line(&format!("hfl: {text}"));
                } else {
                    self.bar.set_message(text.to_owned());
                }
            }
            Event::Warning(text) if self.verbosity != Verbosity::Quiet => self.line(&format!("hfl: warning: {text}")),
            Event::Warning(_) => {}
            Event::Start { image_bytes } => self.start(image_bytes),
            Event::Scanned { bytes, part } => self.scanned(bytes, part),
            Event::Sent { .. } => {}
            Event::Restored { bytes } => self.bar.inc(bytes),
        }
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
