//! How the program ends: exit codes, and errors for a person or a program.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use hfl::Error;
use hfl::SCHEMA;
use hfl::repo::ReadError;

use crate::terminal::{Colour, coloured};

/// The exit codes of a command that changes mirrors, for its help; what [`BEHIND`] means follows.
pub const CODES: &str = "Exit codes:
  0  success
  1  local error
  2  usage error
  3  verification failed
  4  no mirror reachable
  5  conflict or locked (--wait)
  130  interrupted";

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

/// A report, with the number of its form.
#[derive(serde::Serialize)]
struct Numbered<'a, T> {
    schema: u32,
    #[serde(flatten)]
    report: &'a T,
}

/// Prints a report, which is an object, as JSON.
pub fn print_json(report: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(&Numbered { schema: SCHEMA, report })?))
}

/// Prints a report as JSON in one line.
pub fn print_json_line(report: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string(&Numbered { schema: SCHEMA, report })?))
}

/// A warning as a line for people.
pub fn warning(text: &str) -> String {
    format!("hfl: {} {text}", coloured("warning:", Colour::Yellow))
}

/// Prints a warning on standard error.
pub fn warn(text: &str) {
    // A standard error stream that cannot be written to is ignored.
    let _ = writeln!(io::stderr(), "{}", warning(text));
}

/// Prints a warning, unless it was printed before.
pub fn warn_once(text: &str) {
    if is_new(text) {
        warn(text);
    }
}

/// Whether this is asked of a warning for the first time.
pub fn is_new(text: &str) -> bool {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned())
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
        writeln!(err, "hfl: {} {error}{hint}", coloured("error:", Colour::Red))
    };
    ExitCode::from(error.kind().exit_code())
}

/// Whether a command line that could not be parsed asks for JSON.
pub fn wants_json(mut words: impl Iterator<Item = OsString>) -> bool {
    words.any(|word| word == "--json")
}

/// Prints an error of the command line and returns the exit code.
pub fn report_usage(error: &clap::Error, json: bool) -> ExitCode {
    if !json {
        // A standard error stream that cannot be written to is ignored.
        let _ = write!(io::stderr(), "hfl: ").and_then(|()| error.print());
        return ExitCode::from(hfl::ErrorKind::Usage.exit_code());
    }
    let text = error.render().to_string();
    // The first paragraph is the error; hints and the usage follow.
    let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
    let message = lines.collect::<Vec<_>>().join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
    report(&Error::usage(message).hint("--help shows the usage").into(), true)
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
