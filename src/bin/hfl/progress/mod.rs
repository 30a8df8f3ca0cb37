//! Progress of a command: lines that are drawn again on a terminal, elsewhere a line at each phase and every 10 seconds,
//! or JSON, on standard error or in a file.

mod bars;
mod standing;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hfl::Error;
use hfl::SCHEMA;
use hfl::client::notice::{Notice, Observer};
use hfl::progress::{Event, Progress};

use self::bars::Bars;
use self::standing::Standing;
use crate::exit;
use crate::show::Verbosity;
use crate::terminal;

/// Intervals of lines for people, of those for programs, and between two drawings.
const TEXT_EVERY: Duration = Duration::from_secs(10);
const JSON_EVERY: Duration = Duration::from_secs(1);
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// Where progress goes for programs.
#[derive(clap::Args, Debug, Default, Clone)]
pub struct ProgressArgs {
    /// `json`: print progress on standard error as JSON, one object per line
    #[arg(long, value_name = "json", value_parser = ["json"], hide_possible_values = true)]
    progress: Option<String>,
    /// Write the same JSON to a file, or a pipe, besides what is printed
    #[arg(long, value_name = "FILE", conflicts_with = "progress")]
    progress_file: Option<PathBuf>,
}

impl ProgressArgs {
    /// Whether standard error has JSON alone.
    pub fn is_json(&self) -> bool {
        self.progress.is_some()
    }

    /// Starts the output for a command with this verbosity.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn start(&self, verbosity: Verbosity) -> Result<Arc<Reporter>, Error> {
        let json = match &self.progress_file {
            Some(path) => Some(Output::File(open(path).map_err(|e| Error::io(path, &e))?)),
            None => self.is_json().then_some(Output::Stderr),
        };
        let is_silent = self.is_json() || verbosity == Verbosity::Quiet;
        Ok(Arc::new(Reporter::new(json, if is_silent { Verbosity::Quiet } else { verbosity })))
    }
}

/// Opens a file of progress. What is in it goes, unless this program wrote it.
fn open(path: &Path) -> io::Result<File> {
    static IS_OPENED: AtomicBool = AtomicBool::new(false);
    let mut options = File::options();
    options.create(true);
    if IS_OPENED.swap(true, Relaxed) {
        options.append(true)
    } else {
        options.write(true).truncate(true)
    };
    options.open(path)
}

/// Where lines of JSON go.
#[derive(Debug)]
enum Output {
    Stderr,
    File(File),
}

impl Output {
    /// Prints a line. What cannot be written is ignored.
    fn print(&mut self, line: &str) {
        let _ = match self {
            Self::Stderr => writeln!(io::stderr(), "{line}"),
            Self::File(file) => file.write_all(format!("{line}\n").as_bytes()),
        };
    }
}

#[derive(Debug)]
struct State {
    standing: Standing,
    json: Option<Output>,
    verbosity: Verbosity,
    /// On a terminal.
    bars: Option<Bars>,
}

/// Prints how a command proceeds.
#[derive(Debug)]
pub struct Reporter {
    state: Arc<Mutex<State>>,
    /// Whether it was printed that the mirrors are waited for.
    waits: AtomicBool,
    ticker: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

impl Reporter {
    fn new(json: Option<Output>, verbosity: Verbosity) -> Self {
        let draws = verbosity != Verbosity::Quiet && terminal::is_drawable();
        let bars = draws.then(Bars::new);
        let is_needed = json.is_some() || verbosity != Verbosity::Quiet;
        let state = Arc::new(Mutex::new(State { standing: Standing::new(), json, verbosity, bars }));
        let ticker = Mutex::new(is_needed.then(|| tick(Arc::clone(&state))));
        Self { state, waits: AtomicBool::new(false), ticker }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints a result on standard output, while the command goes on.
    pub fn print(&self, text: &str) -> anyhow::Result<()> {
        match &self.state().bars {
            Some(bars) => bars.suspend(|| exit::print(text)),
            None => exit::print(text),
        }
    }

    /// Ends the output; in JSON, with a last line.
    pub fn end(&self) {
        let ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((stop, thread)) = ticker else { return };
        drop(stop);
        // A thread that panicked has printed why.
        let _ = thread.join();
        let mut state = self.state();
        state.print_json();
        state.bars = None;
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.end();
    }
}

impl State {
    /// Prints a line for people, above what is drawn.
    fn say(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.print(text),
            // A standard error stream that cannot be written to is ignored.
            None => drop(writeln!(io::stderr(), "{text}")),
        }
    }

    fn print_json(&mut self) {
        if let Some(json) = &mut self.json {
            json.print(&self.standing.json());
        }
    }

    fn warn(&mut self, text: &str) {
        if let Some(json) = &mut self.json {
            json.print(&serde_json::json!({ "schema": SCHEMA, "warning": text }).to_string());
        }
        if self.verbosity != Verbosity::Quiet {
            self.say(&exit::warning(text));
        }
    }

    /// Prints a warning with -q too.
    fn must_say(&mut self, notice: &Notice) {
        match (&self.json, self.verbosity) {
            (None | Some(Output::File(_)), Verbosity::Quiet) => self.say(&exit::warning(&notice.to_string())),
            _ => self.warn(&notice.to_string()),
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        // With -v, what a phase came to is said at its end.
        if matches!(event, Event::Phase(_)) && self.verbosity == Verbosity::Verbose && self.standing.phase.is_some() {
            self.say(&format!("hfl: done: {}", self.standing.line()));
        }
        self.standing.note(event);
        match event {
            Event::Warning(text) => self.warn(text),
            Event::Phase(_) => self.print_json(),
            _ => {}
        }
        let is_line = matches!(event, Event::Phase(_) | Event::Step(_));
        match self.verbosity {
            Verbosity::Quiet => {}
            Verbosity::Normal if self.bars.is_some() => {}
            _ if is_line => self.say(&format!("hfl: {}", self.standing.what())),
            _ => {}
        }
    }
}

/// Starts a thread that prints and draws now and then, until the sender is dropped.
fn tick(state: Arc<Mutex<State>>) -> (Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = channel();
    let thread = std::thread::spawn(move || {
        let (mut text_at, mut json_at) = (Instant::now() + TEXT_EVERY, Instant::now() + JSON_EVERY);
        while stopped.recv_timeout(DRAW_EVERY) == Err(RecvTimeoutError::Timeout) {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let State { standing, bars, verbosity, .. } = &mut *state;
            if let Some(bars) = bars {
                bars.draw(standing);
            } else if now >= text_at && *verbosity != Verbosity::Quiet {
                state.say(&format!("hfl: {}", state.standing.line()));
                text_at += TEXT_EVERY;
            }
            if now >= json_at {
                state.print_json();
                json_at += JSON_EVERY;
            }
        }
    });
    (stop, thread)
}

impl Progress for Reporter {
    fn event(&self, event: Event<'_>) {
        self.state().event(&event);
    }
}

impl Observer for Reporter {
    fn notice(&self, notice: Notice) {
        let said = match &notice {
            Notice::Accepted { .. } if exit::is_new(&notice.to_string()) => return self.state().must_say(&notice),
            Notice::NotOpened { .. } => true,
            // Said once for all reads that wait.
            Notice::Waiting { .. } => !self.waits.swap(true, Relaxed),
            Notice::Resumed { .. } => self.waits.swap(false, Relaxed),
            _ => false,
        };
        if said {
            self.state().warn(&notice.to_string());
        }
    }
}
