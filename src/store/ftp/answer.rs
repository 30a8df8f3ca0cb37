//! What a server answered, and what that means for the program.

use suppaftp::FtpError;
use suppaftp::types::Response;

use crate::store::StoreErrorKind;

/// The longest part of an answer that a message quotes, in bytes.
const QUOTED_MAX_BYTES: usize = 200;

/// The answer to one command.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// Its three digits; 0 where it had none.
    pub code: u32,
    /// What the server said with it, in one printable line.
    pub text: String,
}

/// A step that failed: what for the program, why for the person. The store adds on which object.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub kind: StoreErrorKind,
    pub why: String,
    /// The code of the answer that ended it; 0 where it was no answer.
    pub code: u32,
    /// The server has no room for one more connection.
    pub crowded: bool,
    /// What it was about may be missing, or there and out of reach: the server's words fit both.
    pub unclear: bool,
}

impl From<&Response> for Answer {
    fn from(response: &Response) -> Self {
        let body = String::from_utf8_lossy(&response.body);
        let code = body.get(..3).and_then(|digits| digits.parse().ok()).unwrap_or(0);
        // Where there are several lines, the reason is most often in the last one.
        let last = body.trim_end().lines().next_back().unwrap_or_default();
        let text = last.strip_prefix(&format!("{code} ")).unwrap_or(last);
        let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text.truncate(text.floor_char_boundary(QUOTED_MAX_BYTES));
        Self { code, text: text.trim().to_owned() }
    }
}

impl Answer {
    /// True where the step that was asked for has been done.
    pub fn is_done(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// True where the server does not know the command.
    pub fn is_unknown_command(&self) -> bool {
        matches!(self.code, 500 | 501 | 502 | 504)
    }

    /// True where the words of the answer say that something is there already.
    pub fn says_exists(&self) -> bool {
        let text = self.words();
        text.contains("exist") && !says_missing(&text)
    }

    /// What the server said, in lower case and without paths: an object may be called `denied.head`.
    fn words(&self) -> String {
        let is_path = |word: &&str| word.trim_end_matches(['.', ':', ',', ';', '\'', '"']).contains(['.', '/']);
        let words: Vec<&str> = self.text.split_whitespace().filter(|word| !is_path(word)).collect();
        words.join(" ").to_lowercase()
    }

    /// True where the answer fits something that is missing and something that is there and cannot be opened. Nothing may be
    /// taken for missing by such words: vsftpd says `550 Failed to open file.` to both.
    fn is_unclear(&self) -> bool {
        let words = self.words();
        matches!(self.code, 450 | 550 | 551) && !says_missing(&words) && !says_full(&words) && !says_denied(&words)
    }

    /// True where a login failed because there are too many already.
    fn says_crowded(&self) -> bool {
        let text = self.text.to_lowercase();
        let crowd = ["too many", "maximum", "limit", "already connected", "already logged"];
        self.code == 421 || (self.code == 530 && crowd.iter().any(|word| text.contains(word)))
    }

    /// What a refusal means. The digits leave much open: 550 is "not there" and "not allowed". That something is missing is
    /// believed only of words that say so.
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

    /// This refusal as the end of a step.
    pub fn refusal(&self) -> Failure {
        let why = format!("the server answered {} {}", self.code, self.text);
        Failure { kind: self.kind(), why, code: self.code, crowded: false, unclear: self.is_unclear() }
    }

    /// This refusal as the end of an attempt to connect.
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

/// Words that say nothing else. RFC 959's own sentence, "file unavailable (e.g., file not found, no access)", says both.
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

    /// A deadline that went by.
    pub fn timed_out(step: &str) -> Self {
        Self::new(StoreErrorKind::Unreachable, format!("timed out while {step}"))
    }

    /// What the connection itself ran into.
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

/// The system's sentence without the number that the standard library adds.
fn without_number(text: &str) -> String {
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// The library hands on only the text of what went wrong while TLS was set up, with its own words before it.
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
