//! The meaning of rsync's and ssh's exit codes and error output.

use crate::format::layout::RepoPath;
use crate::store::{StoreError, StoreErrorKind};

/// Maximum length of a message quoted from a program, in characters.
const WORDS_MAX: usize = 200;

/// Why an rsync run failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// The kind, for the program.
    pub(super) kind: StoreErrorKind,
    /// The reason, for the user.
    pub(super) why: String,
    /// A cause that allows another attempt.
    pub(super) hint: Option<Hint>,
}

/// A cause that the caller can handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    /// The mirror's directory does not exist.
    NoBase,
    /// The parent of the mirror's directory does not exist either.
    NoParent,
    /// The host allows only one rsync at a time.
    Busy,
    /// Only some of the objects were transferred.
    Partial,
}

impl Failure {
    pub(super) fn new(kind: StoreErrorKind, why: impl Into<String>) -> Self {
        Self { kind, why: why.into(), hint: None }
    }

    pub(super) fn at(self, location: &str, path: &RepoPath) -> StoreError {
        StoreError::at(location, path, self.kind, self.why)
    }

    pub(super) fn whole(self, location: &str) -> StoreError {
        StoreError::whole(location, self.kind, self.why)
    }

    /// Classifies a run that ended with `code` (`None`: by a signal).
    pub(super) fn judge(code: Option<i32>, stderr: &str) -> Self {
        let has = |words: &[&str]| words.iter().any(|w| stderr.contains(w));
        let missing = |verb: &str| {
            let mut lines = stderr.lines().filter(|line| line.contains(verb));
            lines.any(|line| line.contains("No such file") || line.ends_with("(2)"))
        };
        let hint = if has(&["Another instance of rrsync"]) {
            Some(Hint::Busy)
        } else if missing("change_dir ") || missing("rrsync error: post-realpath open failed") {
            // rrsync of rsync 3.5 checks the directory before it starts rsync, and reports one that never existed as a
            // detected race.
            Some(Hint::NoBase)
        } else if missing("mkdir ") {
            Some(Hint::NoParent)
        } else {
            (code == Some(23)).then_some(Hint::Partial)
        };
        let kind = if hint == Some(Hint::Busy) { StoreErrorKind::Unreachable } else { kind(code, &has) };
        Self { kind, why: sentence(code, stderr, &has), hint }
    }
}

/// The error output takes precedence over the exit code: rsync ends with 12 for any failure of its peer.
fn kind(code: Option<i32>, has: &dyn Fn(&[&str]) -> bool) -> StoreErrorKind {
    if has(&["No space left", "failed: Disk quota exceeded", "(28)", "(122)"]) {
        return StoreErrorKind::Full;
    }
    if has(&["Host key verification failed", "Permission denied (publickey", "Permission denied (keyboard"])
        || has(&["rrsync error", "Too many authentication failures", "Load key \""])
    {
        return StoreErrorKind::Denied;
    }
    let denied = has(&["Permission denied", "Operation not permitted", "Read-only file system", "(13)", "(30)"]);
    match code {
        Some(3 | 11 | 23) if denied => StoreErrorKind::Denied,
        Some(255 | 5 | 10 | 12 | 30 | 35) if denied && has(&["] change_dir", "] mkdir", "] mkstemp"]) => {
            StoreErrorKind::Denied
        }
        Some(255 | 5 | 10 | 12 | 20 | 30 | 35) => StoreErrorKind::Unreachable,
        Some(2) => StoreErrorKind::Protocol,
        _ => StoreErrorKind::Other,
    }
}

fn sentence(code: Option<i32>, stderr: &str, has: &dyn Fn(&[&str]) -> bool) -> String {
    if has(&["Host key verification failed"]) {
        let first = if has(&["IDENTIFICATION HAS CHANGED"]) { "has changed" } else { "is not known" };
        return format!(
            "the host's key {first}; get it from the operator of the host and add it to the file of known hosts"
        );
    }
    if has(&["Permission denied (publickey", "Permission denied (keyboard"]) {
        let words = last_words(stderr).unwrap_or_default();
        let words = words.trim_end_matches('.');
        return format!("the host takes none of the keys ({words}); name one that needs no passphrase as `identity`");
    }
    match (last_words(stderr), code) {
        (Some(words), Some(code)) => format!("{words} (rsync ended with {code})"),
        (Some(words), None) => format!("{words} (rsync was killed)"),
        (None, Some(code)) => format!("rsync ended with {code}"),
        (None, None) => "rsync was killed".to_owned(),
    }
}

/// The last line that contains more than the loss of the connection, made printable.
fn last_words(stderr: &str) -> Option<String> {
    let plain = |line: &str| {
        let shown: String = line.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
        shown.trim().to_owned()
    };
    let empty = ["rsync error:", "rsync warning:", "rsync: connection unexpectedly closed", "*** Skipping"];
    let says = |line: &&str| !line.trim().is_empty() && !empty.iter().any(|e| line.starts_with(e));
    let broken = |line: &&str| line.contains("write error: Broken pipe");
    let lines = || stderr.lines().rev().filter(says);
    let causes = ["Permission denied", "Operation not permitted", "Read-only file system", "No space left", "quota"];
    // Lines after a cause are only its consequences.
    let cause = lines().find(|line| causes.iter().any(|cause| line.contains(cause)));
    let last = cause.or_else(|| lines().find(|line| !broken(line))).or_else(|| lines().next());
    last.or_else(|| stderr.lines().rev().find(|line| !line.trim().is_empty())).map(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_programs_said_decides() {
        let cases = [
            (255, "Host key verification failed.\nrsync: connection unexpectedly closed", StoreErrorKind::Denied),
            (255, "me@h: Permission denied (publickey).\n", StoreErrorKind::Denied),
            (12, "ssh: connect to host h port 22: Connection refused\n", StoreErrorKind::Unreachable),
            (11, "rsync: [receiver] write failed on \"/x\": No space left on device (28)\n", StoreErrorKind::Full),
            (23, "rsync: [receiver] mkstemp \"/x/.y\" failed: Permission denied (13)\n", StoreErrorKind::Denied),
            (12, "/usr/bin/rrsync error: option -x has been disabled\n", StoreErrorKind::Denied),
            (30, "rsync error: timeout in data send/receive (code 30)\n", StoreErrorKind::Unreachable),
            (127, "sh: rsync: command not found\n", StoreErrorKind::Other),
        ];
        for (code, stderr, kind) in cases {
            let failure = Failure::judge(Some(code), stderr);
            assert_eq!(failure.kind, kind, "{stderr}: {}", failure.why);
        }
    }

    #[test]
    fn a_sentence_is_one_short_line() {
        let noise = format!("first\nthe \x1b[31mlast {}\nrsync error: (code 11)\n", "x".repeat(500));
        let why = Failure::judge(Some(11), &noise).why;
        assert!(why.starts_with("the [31mlast xxx") && why.len() < 240 && !why.contains('\x1b'), "{why}");
    }

    #[test]
    fn what_can_be_done_is_known() {
        let base = "rsync: [sender] change_dir \"/a/\" failed: No such file or directory (2)\n";
        assert_eq!(Failure::judge(Some(12), base).hint, Some(Hint::NoBase));
        let base = "/usr/bin/rrsync error: post-realpath open failed (race detected): /a/ No such file or directory\n";
        assert_eq!(Failure::judge(Some(12), base).hint, Some(Hint::NoBase));
        let parent = "rsync: [Receiver] mkdir \"/a/b\" failed: No such file or directory (2)\n";
        assert_eq!(Failure::judge(Some(11), parent).hint, Some(Hint::NoParent));
        assert_eq!(Failure::judge(Some(11), "mkdir failed: Permission denied (13)").hint, None);
    }
}
