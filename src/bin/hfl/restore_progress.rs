//! Progress of a restore on standard error: a bar on a terminal, elsewhere a line every 10 seconds, or JSON.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hfl::client::notice::{Notice, Observer};
use hfl::progress::{Event, Origin, Phase, Progress};

use crate::exit;
use crate::show::{Show, Verbosity, bytes};

/// Interval of lines for people, and of those for programs.
const TEXT_EVERY: Duration = Duration::from_secs(10);
const JSON_EVERY: Duration = Duration::from_secs(1);

/// How progress is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Not at all.
    Quiet,
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Where a restore stands.
#[derive(Debug)]
struct Standing {
    /// `None` while the image is being opened.
    phase: Option<Phase>,
    total: u64,
    hole: u64,
    kept: u64,
    moved: u64,
    seed: u64,
    fetched: u64,
    read_back: u64,
}

impl Standing {
    fn done(&self) -> u64 {
        self.hole + self.kept + self.moved + self.seed + self.fetched
    }

    fn line(&self, form: Form) -> String {
        match form {
            Form::Json => serde_json::json!({
                "phase": self.phase.map_or("open", Phase::name),
                "done": self.done(),
                "total": self.total,
                "hole": self.hole,
                "kept": self.kept,
                "moved": self.moved,
                "seed": self.seed,
                "fetched": self.fetched,
                "read_back": self.read_back,
            })
            .to_string(),
            _ if self.phase == Some(Phase::Verify) => format!("hfl: read back {}", bytes(self.read_back)),
            _ => format!("hfl: {} of {}", bytes(self.done()), bytes(self.total)),
        }
    }
}

/// Prints how a restore proceeds.
pub struct RestoreProgress {
    form: Form,
    show: Mutex<Option<Show>>,
    standing: Arc<Mutex<Standing>>,
    /// Whether it was printed that the mirrors are waited for.
    waits: AtomicBool,
    ticker: Mutex<Option<Sender<()>>>,
}

impl std::fmt::Debug for RestoreProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RestoreProgress").field("form", &self.form).finish_non_exhaustive()
    }
}

/// Prints a line on standard error. A stream that cannot be written to is ignored.
fn print(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

impl RestoreProgress {
    /// Progress output of this form.
    pub fn new(form: Form, verbosity: Verbosity) -> Self {
        let standing =
            Standing { phase: None, total: 0, hole: 0, kept: 0, moved: 0, seed: 0, fetched: 0, read_back: 0 };
        let standing = Arc::new(Mutex::new(standing));
        let every = match form {
            Form::Json => Some(JSON_EVERY),
            Form::Text if !io::stderr().is_terminal() => Some(TEXT_EVERY),
            _ => None,
        };
        let ticker = every.map(|every| tick(form, every, Arc::clone(&standing)));
        let show = if form == Form::Json { None } else { Some(Show::new(verbosity)) };
        let waits = AtomicBool::new(false);
        Self { form, show: Mutex::new(show), standing, waits, ticker: Mutex::new(ticker) }
    }

    /// Ends the output; in JSON, with a last line.
    pub fn end(&self) {
        *self.ticker.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if self.form == Form::Json {
            print(&self.standing.lock().unwrap_or_else(PoisonError::into_inner).line(self.form));
        }
        *self.show.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Notes an event; returns a line to print at once, if it is worth one.
    fn note(&self, event: &Event<'_>) -> Option<String> {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Start { image_bytes } => standing.total = image_bytes.unwrap_or_default(),
            Event::Phase(phase) => {
                standing.phase = Some(*phase);
                return Some(standing.line(self.form));
            }
            Event::Restored { bytes, from } => {
                *match from {
                    Origin::Hole => &mut standing.hole,
                    Origin::Kept => &mut standing.kept,
                    Origin::Moved => &mut standing.moved,
                    Origin::Seed => &mut standing.seed,
                    Origin::Fetched => &mut standing.fetched,
                } += bytes;
            }
            Event::ReadBack { bytes } => standing.read_back += bytes,
            Event::Warning(text) => return Some(serde_json::json!({ "warning": text }).to_string()),
            _ => {}
        }
        None
    }
}

/// Starts a thread that prints a line now and then, until the sender is dropped.
fn tick(form: Form, every: Duration, standing: Arc<Mutex<Standing>>) -> Sender<()> {
    let (stop, stopped) = channel();
    std::thread::spawn(move || {
        let mut next = Instant::now() + every;
        while stopped.recv_timeout(next.saturating_duration_since(Instant::now())) == Err(RecvTimeoutError::Timeout) {
            let standing = standing.lock().unwrap_or_else(PoisonError::into_inner);
            if form == Form::Json || standing.phase.is_some() {
                print(&standing.line(form));
            }
            next += every;
        }
    });
    stop
}

impl Progress for RestoreProgress {
    fn event(&self, event: Event<'_>) {
        match (self.note(&event), self.form) {
            (Some(line), Form::Json) => print(&line),
            _ => {
                if let Some(show) = &*self.show.lock().unwrap_or_else(PoisonError::into_inner) {
                    show.event(event);
                }
            }
        }
    }
}

impl Observer for RestoreProgress {
    fn notice(&self, notice: Notice) {
        match &notice {
            Notice::Accepted { .. } if self.form != Form::Json => exit::warn_once(&notice.to_string()),
            Notice::Accepted { .. } => self.event(Event::Warning(&notice.to_string())),
            Notice::NotOpened { .. } => self.event(Event::Warning(&notice.to_string())),
            // Said once for all reads that wait.
            Notice::Waiting { .. } if !self.waits.swap(true, Relaxed) => {
                self.event(Event::Warning(&notice.to_string()));
            }
            Notice::Resumed { .. } if self.waits.swap(false, Relaxed) => {
                self.event(Event::Warning(&notice.to_string()));
            }
            _ => {}
        }
    }
}
