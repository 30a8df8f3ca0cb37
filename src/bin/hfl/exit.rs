//! How the program ends: exit codes, and errors for a person or a program.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use hfl::Error;
use hfl::repo::ReadError;

/// The exit codes of a command that changes mirrors, for its help; what [`BEHIND`] means follows.
pub const CODES: &str = "Exit codes:
  0  success
  1  local error
  2  usage error
  3  verification failed
  4  no mirror reachable
  5  conflict or locked";

/// Exit code if some mirrors were left behind.
pub const BEHIND: u8 = 6;

/// Ends the program when its output pipe is closed, as usual in a pipeline.
pub fn quiet_on_broken_pipe() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        if text.contains("Broken pipe") {
            std::process::exit(141);
        }
        let _ = writeln!(io::stderr(), "hfl: {text}");
    }));
}

/// Writes to standard output; a closed pipe ends the program quietly, a full disk is an error.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(141),
        Err(e) => Err(Error::io(Path::new("standard output"), &e).into()),
        Ok(()) => Ok(()),
    }
}

/// Prints the text that `write` produces.
pub fn print_with(write: impl FnOnce(&mut String) -> std::fmt::Result) -> anyhow::Result<()> {
    let mut text = String::new();
    write(&mut text)?;
    print(&text)
}

/// Prints a report as JSON.
pub fn print_json(report: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(report)?))
}

/// Prints a warning on standard error.
pub fn warn(text: &str) {
    // A standard error stream that cannot be written to is ignored.
    let _ = writeln!(io::stderr(), "hfl: warning: {text}");
}

/// Prints a warning, unless it was printed before.
pub fn warn_once(text: &str) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned()) {
        warn(text);
    }
}

/// Prints the error and returns the exit code.
pub fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    let error = whole(error);
    let mut err = io::stderr().lock();
    // A standard error stream that cannot be written to is ignored.
    let _ = if json {
        writeln!(err, "{}", error.to_json())
    } else {
        let hint = error.advice().map(|advice| format!("\nhint: {advice}")).unwrap_or_default();
        writeln!(err, "hfl: error: {error}{hint}")
    };
    ExitCode::from(error.kind().exit_code())
}

fn whole(error: &anyhow::Error) -> Error {
    if let Some(error) = error.downcast_ref::<Error>() {
        return error.clone();
    }
    match error.downcast_ref::<ReadError>() {
        Some(read) => read.clone().into(),
        None => Error::local(error.to_string()),
    }
}
