//! Starts child processes without secrets in their environment.
//!
//! ssh may be configured to forward its environment (`SendEnv *`), and a crashing program may write it to a core dump.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Variables whose names contain one of these are always removed.
const TELLING: [&str; 6] = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL", "PRIVATE_KEY"];
/// Prefixes of variables that are removed: hfl's own, including its key, and the AWS credentials.
const OURS: [&str; 2] = ["HFL_", "AWS_"];

/// Names of variables known to contain a secret.
static NAMED: Mutex<BTreeSet<OsString>> = Mutex::new(BTreeSet::new());

/// Removes the variable `name` from the environment of all child processes from now on.
pub fn keep_back(name: &str) {
    NAMED.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into());
}

/// A command for `program` with this process's environment, except secrets.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    std::env::vars_os().map(|(name, _)| name).filter(|name| is_secret(name)).for_each(|name| {
        command.env_remove(name);
    });
    command
}

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

fn is_secret(name: &OsStr) -> bool {
    let upper = String::from_utf8_lossy(name.as_bytes()).to_ascii_uppercase();
    let named = || NAMED.lock().unwrap_or_else(PoisonError::into_inner).contains(name);
    OURS.iter().any(|ours| upper.starts_with(ours)) || TELLING.iter().any(|word| upper.contains(word)) || named()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        keep_back("Mirror_Of_Mine");
        for name in
            ["HFL_KEY", "HFL_KEY_PASSWORD", "AWS_SESSION_TOKEN", "ftp_password", "GITHUB_TOKEN", "Mirror_Of_Mine"]
        {
            assert!(is_secret(OsStr::new(name)), "{name}");
        }
        for name in [
            "PATH",
            "HOME",
            "SSH_AUTH_SOCK",
            "SSH_ASKPASS",
            "LC_ALL",
            "RUST_MIN_STACK",
            "XDG_RUNTIME_DIR",
            "mirror_of_mine",
        ] {
            assert!(!is_secret(OsStr::new(name)), "{name}");
        }
    }
}
