//! Programs that are started: none of them gets a secret with its environment.
//!
//! ssh can be told to send its environment on (`SendEnv *`), and a program that crashes may leave it in a file.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Variables with one of these in their names are kept back, whatever they are for.
const TELLING: [&str; 6] = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL", "PRIVATE_KEY"];
/// Variables whose names begin so: hfl's own, with its key, and the credentials of AWS.
const OURS: [&str; 2] = ["HFL_", "AWS_"];

/// The names of variables that are known to hold a secret.
static NAMED: Mutex<BTreeSet<OsString>> = Mutex::new(BTreeSet::new());

/// Keeps the variable `name` back from every program that is started from now on.
pub fn keep_back(name: &str) {
    NAMED.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into());
}

/// A command of `program` with this environment, less what is secret in it.
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
