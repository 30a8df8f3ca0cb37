//! Content of a lock object: its holder, and a counter that shows that the holder still lives.

use std::fs;

use bytes::Bytes;
use rustix::process::{Pid, test_kill_process};

use crate::system::host::Host;

const MAGIC: &str = "HFL-LOCK 1";

/// A parsed lock object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
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
pub(super) enum State {
    /// Held as long as the object keeps changing.
    Held,
    /// The same, and the holder also has the store's native lock ([`super::Store::native_lock`]): a publisher that gets
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
    /// This process, with a new token.
    pub fn me(host: &dyn Host, state: State) -> Self {
        let token = format!("{:016x}{:016x}", host.random(), host.random());
        Self { token, process: process(), beat: 0, state }
    }

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

    /// The machine name for messages, without terminal control characters.
    pub fn machine(&self) -> String {
        let first = self.process.split(' ').next().unwrap_or_default();
        first.chars().filter(|c| c.is_ascii_graphic()).take(64).collect()
    }

    /// True where the holder was a process of this machine, or of its clone, and no longer exists here.
    pub fn is_gone_here(&self) -> bool {
        let (mine, theirs) = (process(), self.process.as_str());
        let place = |text: &str| text.rsplitn(3, ' ').nth(2).map(str::to_owned);
        let mut words = theirs.rsplit(' ');
        let (start, pid) = (words.next(), words.next().and_then(|pid| pid.parse::<u32>().ok()));
        match (place(&mine), place(theirs), pid, start) {
            (Some(here), Some(there), Some(pid), Some(start)) if here == there => is_gone(pid, start),
            _ => false,
        }
    }
}

/// Whether the process `pid` started at `start` is gone. One that is hidden, as by the mount option hidepid of /proc,
/// counts as alive as long as the kernel knows its PID.
fn is_gone(pid: u32, start: &str) -> bool {
    let known = i32::try_from(pid).ok().and_then(Pid::from_raw).map(test_kill_process);
    match known {
        Some(Err(rustix::io::Errno::SRCH)) => true,
        Some(_) => is_visible(pid) && started(pid).as_deref() != Some(start),
        None => false,
    }
}

fn is_visible(pid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}/stat")).is_ok()
}

fn process() -> String {
    let word = |file: &str| fs::read_to_string(file).unwrap_or_default().trim().replace(' ', "_");
    let machine = word("/proc/sys/kernel/hostname");
    let boot = word("/proc/sys/kernel/random/boot_id");
    let namespace = fs::read_link("/proc/self/ns/pid").map(|n| n.display().to_string()).unwrap_or_default();
    let pid = std::process::id();
    format!("{machine} {boot} {namespace} {pid} {}", started(pid).unwrap_or_default())
}

/// Start time of a local process in ticks since boot; `None` where there is no such process, or only a zombie.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command name in parentheses, which may contain any character.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.nth(18).map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::host::ThisHost;

    #[test]
    fn a_lock_says_who_holds_it() {
        let me = Holder::me(&ThisHost, State::Held);
        for state in [State::Held, State::Owned, State::Unfinished] {
            let holder = Holder { state, ..me.clone() };
            assert_eq!(Holder::parse(&holder.text()), Some(holder));
        }
        assert!(!me.is_gone_here());
        assert_eq!(Holder::parse(b"HFL-LOCK 2\n"), None);
        assert_eq!(Holder::parse(b"<html>"), None);
    }

    #[test]
    fn a_dead_process_is_known_on_its_own_machine_alone() {
        let mut child = std::process::Command::new("true").spawn().expect("true runs");
        let (pid, mine) = (child.id(), std::process::id().to_string());
        let ended = Holder {
            process: process().replace(&format!(" {mine} "), &format!(" {pid} ")),
            ..Holder::me(&ThisHost, State::Held)
        };
        child.wait().expect("it ends");
        assert!(ended.is_gone_here());
        let elsewhere = Holder { process: format!("x{}", ended.process), ..Holder::me(&ThisHost, State::Held) };
        assert!(!elsewhere.is_gone_here());
    }
}
