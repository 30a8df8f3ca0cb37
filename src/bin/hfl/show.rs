//! Human-readable numbers, and progress on a terminal.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hfl::progress::{Event, Fate, Phase, Progress};
use indicatif::{HumanBytes, HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// `1.50 MiB`.
pub fn bytes(n: u64) -> String {
    HumanBytes(n).to_string()
}

/// `1,234,567`.
pub fn count(n: u64) -> String {
    HumanCount(n).to_string()
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

/// Progress on standard error: on a terminal one bar for the image and one per mirror, elsewhere a line per step.
pub struct Show {
    verbosity: Verbosity,
    bars: MultiProgress,
    bar: ProgressBar,
    mirrors: Mutex<BTreeMap<String, ProgressBar>>,
    new: AtomicU64,
    known: AtomicU64,
    block_bytes: AtomicU64,
}

impl Show {
    /// Progress output at this verbosity.
    pub fn new(verbosity: Verbosity) -> Self {
        let terminal = io::stderr().is_terminal() && verbosity != Verbosity::Quiet;
        let target = if terminal { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let bar = bars.add(ProgressBar::no_length());
        let (mirrors, new, known, block_bytes) = Default::default();
        Self { verbosity, bars, bar, mirrors, new, known, block_bytes }
    }

    fn line(&self, text: &str) {
        self.bars.suspend(|| {
            // A standard error stream that cannot be written to is ignored.
            let _ = writeln!(io::stderr(), "{text}");
        });
    }

    fn start(&self, image_bytes: Option<u64>) {
        let template = match image_bytes {
            Some(_) => "{bar:24} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta} {msg}",
            None => "{spinner} {bytes} {bytes_per_sec} {msg}",
        };
        set_style(&self.bar, template);
        self.bar.reset();
        self.block_bytes.store(0, Relaxed);
        if let Some(bytes) = image_bytes {
            self.bar.set_length(bytes);
        }
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    /// Passes the bar of a mirror to `change`.
    fn mirror(&self, way: &str, name: &str, change: impl FnOnce(&ProgressBar)) {
        if self.bar.is_hidden() {
            return;
        }
        let mut mirrors = self.mirrors.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let bar = self.bars.add(ProgressBar::new(0)).with_prefix(format!("{way} {name}"));
            set_style(&bar, "{bar:24} {bytes}/{total_bytes} {bytes_per_sec} {prefix}");
            bar
        };
        change(mirrors.entry(name.to_owned()).or_insert_with(new));
    }

    fn block(&self, bytes: u64, fate: Fate) {
        let counter = if fate == Fate::New { &self.new } else { &self.known };
        counter.fetch_add(1, Relaxed);
        self.block_bytes.fetch_add(bytes, Relaxed);
        if !self.bar.is_hidden() {
            let zero = self.bar.position().saturating_sub(self.block_bytes.load(Relaxed));
            let (new, known) = (self.new.load(Relaxed), self.known.load(Relaxed));
            self.bar.set_message(format!("blocks: {new} new, {known} known; zero: {}", self::bytes(zero)));
        }
    }
}

impl Progress for Show {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Step(text) => {
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
            Event::Read { bytes } | Event::Restored { bytes, .. } => self.bar.inc(bytes),
            Event::Phase(phase) => self.bar.set_message(phase_text(phase)),
            Event::ReadBack { .. } => {}
            Event::Block { bytes, fate } => self.block(bytes, fate),
            Event::ToSend { mirror, bytes } => self.mirror("to", mirror, |bar| bar.inc_length(bytes)),
            Event::Sent { mirror, bytes } => self.mirror("to", mirror, |bar| bar.inc(bytes)),
            Event::ToCheck { mirror, bytes } => self.mirror("at", mirror, |bar| bar.inc_length(bytes)),
            Event::Checked { mirror, bytes } => self.mirror("at", mirror, |bar| bar.inc(bytes)),
        }
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        // A bar that cannot be cleared is gone with the terminal.
        let _ = self.bars.clear();
    }
}

/// What a restore does in a phase.
fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::Check => "looking at what is there",
        Phase::Move => "moving blocks",
        Phase::Seed => "reading seeds",
        Phase::Fetch => "downloading",
        Phase::Verify => "reading back",
    }
}

fn set_style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}
