//! Runs a program to its end, unless the user cancels.

use std::io::{self, Read as _, Seek as _};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Most bytes of messages that are read of a child.
const TOLD_MAX_BYTES: u64 = 1 << 20;
/// How often a running child is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Runs a command to its end, without input; its output is dropped.
///
/// # Errors
/// It cannot be started; it fails: the last line that it wrote to standard error; it was ended since `stop` returned
/// true: [`io::ErrorKind::Interrupted`].
pub fn run(command: &mut Command, stop: &dyn Fn() -> bool) -> io::Result<()> {
    let mut told = tempfile::tempfile()?;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(told.try_clone()?).spawn()?;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if stop() => {
                child.kill()?;
                child.wait()?;
                return Err(io::ErrorKind::Interrupted.into());
            }
            None => std::thread::sleep(POLL),
        }
    };
    if status.success() {
        return Ok(());
    }
    if stop() {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let mut text = Vec::new();
    told.rewind()?;
    told.take(TOLD_MAX_BYTES).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let last = text.trim().lines().last().unwrap_or("no message");
    Err(io::Error::other(format!("{last} ({status})")))
}
