//! Server replies and their meaning for the program.

use suppaftp::FtpError;
use suppaftp::types::Response;

use crate::store::StoreErrorKind;

/// Maximum length of a reply quoted in a message, in bytes.
const QUOTED_MAX_BYTES: usize = 200;

/// The reply to one command.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// Three-digit code; 0 if there was none.
    pub code: u32,
    /// Text of the reply, in one printable line.
    pub text: String,
}

/// A failed step: the kind for the program, the reason for the user. The store adds the object.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub kind: StoreErrorKind,
    pub why: String,
    /// Code of the reply that ended the step; 0 if it was not a reply.
    pub code: u32,
    /// The server allows no further connection.
    pub crowded: bool,
    /// The reply is ambiguous: the object may be missing, or exist and be inaccessible.
    pub unclear: bool,
}

impl From<&Response> for Answer {
    fn from(response: &Response) -> Self {
        let body = String::from_utf8_lossy(&response.body);
        let code = body.get(..3).and_then(|digits| digits.parse().ok()).unwrap_or(0);
        // Of several lines, the last one mostly has the reason.
        let last = body.trim_end().lines().next_back().unwrap_or_default();
        let text = last.strip_prefix(&format!("{code} ")).unwrap_or(last);
        let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text.truncate(text.floor_char_boundary(QUOTED_MAX_BYTES));
        Self { code, text: text.trim().to_owned() }
    }
}

impl Answer {
    /// True if the command succeeded.
    pub fn is_done(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// True if the server does not know the command.
    pub fn is_unknown_command(&self) -> bool {
        matches!(self.code, 500 | 501 | 502 | 504)
    }

    /// True if the text says that the file already exists.
    pub fn says_exists(&self) -> bool {
        let text = self.words();
        text.contains("exist") && !says_missing(&text)
    }

    /// The text in lower case and without paths: an object may be called `denied.head`.
    fn words(&self) -> String {
        let is_path = |word: &&str| word.trim_end_matches(['.', ':', ',', ';', '\'', '"']).contains(['.', '/']);
        let words: Vec<&str> = self.text.split_whitespace().filter(|word| !is_path(word)).collect();
        words.join(" ").to_lowercase()
    }

    /// True if the reply fits both a missing file and one that cannot be opened. vsftpd answers both with
    /// `550 Failed to open file.` Such a reply never counts as "missing".
    fn is_unclear(&self) -> bool {
        let words = self.words();
        matches!(self.code, 450 | 550 | 551) && !says_missing(&words) && !says_full(&words) && !says_denied(&words)
    }

    /// True if a login failed because of too many connections.
    fn says_crowded(&self) -> bool {
        let text = self.text.to_lowercase();
        let crowd = ["too many", "maximum", "limit", "already connected", "already logged"];
        self.code == 421 || (self.code == 530 && crowd.iter().any(|word| text.contains(word)))
    }

    /// The meaning of a refusal. The code alone is ambiguous: 550 is both "missing" and "not allowed". A file counts as
    /// missing only if the text says so.
    pub fn kind(&self) -> StoreErrorKind {
        let words = self.words();
        match self.code {
            421 | 425 => StoreErrorKind::Unreachable,
            452 | 552 => StoreErrorKind::Full,
            430 | 530 | 532 => StoreErrorKind::Denied,
            400..600 if says_full(&words) => StoreErrorKind::Full,
            400..600 if says_denied(&words) => StoreErrorKind::Denied,
            400..600 if says_missing(&words) => StoreErrorKind::NotFound,
            400..500 => StoreErrorKind::Unreachable,
            550 | 551 | 553 => StoreErrorKind::Denied,
            _ => StoreErrorKind::Protocol,
        }
    }

    /// The failure of a step with this reply.
    pub fn refusal(&self) -> Failure {
        let why = format!("the server answered {} {}", self.code, self.text);
        Failure { kind: self.kind(), why, code: self.code, crowded: false, unclear: self.is_unclear() }
    }

    /// The failure to connect or log in with this reply.
    pub fn not_let_in(&self) -> Failure {
        let refusal = self.refusal();
        match self.says_crowded() {
            true => Failure { kind: StoreErrorKind::Unreachable, crowded: true, ..refusal },
            false => refusal,
        }
    }
}

fn says(words: &str, any: &[&str]) -> bool {
    any.iter().any(|part| words.contains(part))
}

/// Unambiguous words for "missing". RFC 959's own text, "file unavailable (e.g., file not found, no access)", is not.
fn says_missing(words: &str) -> bool {
    let missing = ["no such", "not found", "not exist", "doesn't exist", "cannot find", "enoent"];
    says(words, &missing) && !words.contains("access")
}

fn says_full(words: &str) -> bool {
    says(words, &["no space", "disk full", "quota"])
}

fn says_denied(words: &str) -> bool {
    says(words, &["denied", "permission", "not allowed", "not permitted", "prohibited", "read-only"])
}

impl Failure {
    pub fn new(kind: StoreErrorKind, why: impl Into<String>) -> Self {
        Self { kind, why: why.into(), code: 0, crowded: false, unclear: false }
    }

    /// A missed deadline.
    pub fn timed_out(step: &str) -> Self {
        Self::new(StoreErrorKind::Unreachable, format!("timed out while {step}"))
    }

    /// An I/O error of the connection.
    pub fn io(error: &std::io::Error) -> Self {
        Self::new(StoreErrorKind::Unreachable, without_number(&error.to_string()))
    }
}

impl From<FtpError> for Failure {
    fn from(error: FtpError) -> Self {
        match error {
            FtpError::UnexpectedResponse(response) => Answer::from(&response).refusal(),
            FtpError::ConnectionError(error) => Self::io(&error),
            FtpError::SecureError(text) => secure(&text),
            error => Self::new(StoreErrorKind::Protocol, error.to_string().to_lowercase()),
        }
    }
}

/// The system's error message without the number that the standard library adds.
fn without_number(text: &str) -> String {
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// The library returns only the text of a TLS handshake error, with its own prefix.
fn secure(text: &str) -> Failure {
    let text = text.trim_start_matches("Secure error: ");
    if let Some(reason) = text.strip_prefix("Connection error: ") {
        return Failure::new(StoreErrorKind::Unreachable, format!("TLS: {}", without_number(reason)));
    }
    match text.strip_prefix("invalid peer certificate: ") {
        Some(reason) => {
            Failure::new(StoreErrorKind::Denied, format!("the server's certificate is not trusted: {reason}"))
        }
        None => Failure::new(StoreErrorKind::Protocol, format!("TLS: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clear_words_say_that_something_is_missing() {
        let answer = |code, text: &str| Answer { code, text: text.to_owned() };
        let clear = [
            (550, "x.head: No such file or directory"),
            (550, "denied.head: No such file or directory"),
            (550, "/quota/images: No such file or directory."),
            (450, "file not found"),
            (551, "ENOENT: no such file or directory, open 'x'"),
            (550, "The system cannot find the file specified. "),
        ];
        for (code, text) in clear {
            let answer = answer(code, text);
            assert_eq!((answer.kind(), answer.is_unclear()), (StoreErrorKind::NotFound, false), "{text}");
        }
        let unclear = [
            (550, "Failed to open file."),
            (550, "Could not get file size."),
            (551, "File not available"),
            (550, "Requested action not taken. File unavailable (e.g., file not found, no access)."),
        ];
        for (code, text) in unclear {
            let answer = answer(code, text);
            assert!(answer.is_unclear() && answer.kind() == StoreErrorKind::Denied, "{text}");
        }
        let denied = answer(550, "x.head: Permission denied");
        assert_eq!((denied.kind(), denied.is_unclear()), (StoreErrorKind::Denied, false));
        assert_eq!(answer(553, "not.found: Could not create file.").kind(), StoreErrorKind::Denied);
    }
}
