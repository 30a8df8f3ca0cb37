//! How the program ends: an error for a person or a program, and the exit code.

use std::process::ExitCode;

use hfl::{Error, ErrorKind};

/// The exit codes, for the help of a command that reads an image.
pub const CODES: &str = "Exit codes:
  0  success
  1  local error
  2  usage error
  3  verification failed
  4  no mirror reachable";

/// Reports a failure, and returns the exit code.
pub fn report(outcome: Result<(), Error>, json: bool) -> ExitCode {
    let Err(error) = outcome.map_err(advised) else { return ExitCode::SUCCESS };
    if json {
        eprintln!("{}", error.to_json());
    } else {
        eprintln!("hfl-mount: error: {error}");
        if let Some(hint) = error.advice() {
            eprintln!("hint: {hint}");
        }
    }
    ExitCode::from(error.kind().exit_code())
}

/// Adds advice for this command line if mirrors cannot be reached.
fn advised(error: Error) -> Error {
    if error.kind() != ErrorKind::Unreachable || error.advice().is_some() {
        return error;
    }
    let is_private = error.to_string().contains("invalid peer certificate: unknownissuer");
    error.hint(if is_private {
        "name the mirror's certificate authority with --ca-file"
    } else {
        "name a further mirror, or check the network"
    })
}
