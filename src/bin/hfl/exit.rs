//! How the program ends: exit codes, and errors as a person or a program reads them.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use hfl::Error;
use hfl::client::notice::{Notice, Observer};
use hfl::repo::ReadError;

/// Some mirrors were left behind.
pub const BEHIND: u8 = 6;

/// Output into a closed pipe ends the program, as it does every other one in a pipeline.
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

/// Prints what `write` writes.
pub fn print_with(write: impl FnOnce(&mut String) -> std::fmt::Result) -> anyhow::Result<()> {
    let mut text = String::new();
    write(&mut text)?;
    print(&text)
}

/// Prints a report as JSON.
pub fn print_json(report: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(report)?))
}

/// Says on standard error what the user should know.
pub fn warn(text: &str) {
    // Nothing can be done about a standard error that cannot be written to.
    let _ = writeln!(io::stderr(), "hfl: warning: {text}");
}

/// Says what the user should know of an image that is read. What happens on the way is told where it ends.
#[derive(Debug)]
pub struct Warnings;

impl Observer for Warnings {
    fn notice(&self, notice: Notice) {
        if let Notice::Accepted { .. } = notice {
            warn(&notice.to_string());
        }
    }
}

/// Says what failed and returns the exit code.
pub fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    let error = whole(error);
    let mut err = io::stderr().lock();
    // Nothing can be done about a standard error that cannot be written to.
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
