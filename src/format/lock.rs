//! The lock object `publish.lock` of a mirror: its holder, and a counter that shows that the holder still lives.
//!
//! ```text
//! HFL-LOCK 1
//! token 6f9619ff8b86d011b42d00c04fc964ff
//! process HOST BOOT NAMESPACE PID START
//! beat 17
//! state held
//! ```
//!
//! Not signed. What publishers conclude from it is in the chapter on the format, under Locks.

use bytes::Bytes;

const MAGIC: &str = "HFL-LOCK 1";

/// A parsed lock object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Random, new each time a lock is taken.
    pub token: String,
    /// The process: machine, boot ID, PID namespace, PID and start time, separated by spaces.
    pub process: String,
    /// Counts up while the holder lives.
    pub beat: u64,
    /// State of the lock.
    pub state: State,
}

/// The state of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Held as long as the object keeps changing.
    Held,
    /// The same, and the holder also has the native lock of the mirror, such as `flock`: a publisher that gets
    /// the native lock may take this one at once.
    Owned,
    /// The holder stopped with work unfinished; the next publisher may take the lock at once.
    Unfinished,
}

impl State {
    const WORDS: [(Self, &str); 3] = [(Self::Held, "held"), (Self::Owned, "owned"), (Self::Unfinished, "unfinished")];

    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(state, _)| *state == self).map_or("", |(_, word)| word)
    }

    fn parse(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, w)| *w == word).map(|(state, _)| *state)
    }
}

impl Holder {
    /// Serializes it as a lock object.
    pub fn text(&self) -> Bytes {
        let Self { token, process, beat, state } = self;
        format!("{MAGIC}\ntoken {token}\nprocess {process}\nbeat {beat}\nstate {}\n", state.word()).into()
    }

    /// Parses a lock object; `None` if hfl did not write it.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(text).ok()?.lines();
        lines.next().filter(|line| *line == MAGIC)?;
        let token = lines.next()?.strip_prefix("token ")?.to_owned();
        let process = lines.next()?.strip_prefix("process ")?.to_owned();
        let beat = lines.next()?.strip_prefix("beat ")?.parse().ok()?;
        let state = State::parse(lines.next()?.strip_prefix("state ")?)?;
        Some(Self { token, process, beat, state })
    }

    /// The machine and the process for messages, without terminal control characters: `HOST (process 4711)`.
    pub fn who(&self) -> String {
        let mut words = self.process.split(' ');
        let machine = words.next().unwrap_or_default().chars().filter(char::is_ascii_graphic).take(64).collect();
        match words.nth(2).and_then(|pid| pid.parse::<u32>().ok()) {
            Some(pid) => format!("{machine} (process {pid})"),
            None => machine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_says_who_holds_it() {
        for state in [State::Held, State::Owned, State::Unfinished] {
            let process = "host 5f2a pid:[4026531836] 4711 123456".to_owned();
            let holder = Holder { token: "6f9619ff".to_owned(), process, beat: 17, state };
            assert_eq!(holder.who(), "host (process 4711)");
            assert_eq!(Holder::parse(&holder.text()), Some(holder));
        }
        assert_eq!(Holder::parse(b"HFL-LOCK 2\n"), None);
        assert_eq!(Holder::parse(b"<html>"), None);
    }
}
