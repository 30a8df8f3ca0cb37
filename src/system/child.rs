//! Starts child processes without secrets in their environment.
//!
//! ssh may be configured to forward its environment (`SendEnv *`), and a crashing program may write it to a core dump.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

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
