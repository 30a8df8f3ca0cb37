//! Messages on the standard error stream, limited in rate.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hfl::client::notice::{Notice, Observer};

/// Minimum time between two messages on the same topic.
const PAUSE: Duration = Duration::from_secs(10);

/// Level of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Errors only.
    Quiet,
    /// Messages for an administrator.
    Normal,
    /// Every notice.
    Verbose,
}

#[derive(Debug, Default)]
struct Topic {
    said: Option<Instant>,
    swallowed: u64,
}

/// Prints notices.
#[derive(Debug)]
pub struct Log {
    level: Level,
    topics: Mutex<HashMap<String, Topic>>,
}

impl Log {
    /// A log of this level.
    pub fn new(level: Level) -> Self {
        Self { level, topics: Mutex::default() }
    }

    /// Prints one line.
    pub fn say(&self, line: impl std::fmt::Display) {
        if self.level > Level::Quiet {
            // In one write, and without a panic if the stream is closed.
            let _ = std::io::stderr().write_all(format!("hfl-mount: {line}\n").as_bytes());
        }
    }

    /// Prints a warning.
    pub fn warn(&self, line: impl std::fmt::Display) {
        self.say(format_args!("warning: {line}"));
    }

    /// How many messages of a topic were suppressed since the last one; `None` if this one is suppressed, too.
    fn turn(&self, topic: String) -> Option<u64> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let topic = topics.entry(topic).or_default();
        if self.level < Level::Verbose && topic.said.is_some_and(|at| at.elapsed() < PAUSE) {
            topic.swallowed += 1;
            return None;
        }
        topic.said = Some(Instant::now());
        Some(std::mem::take(&mut topic.swallowed))
    }
}

/// The topic of a notice if one message stands for many; the others are always printed.
fn topic(notice: &Notice) -> Option<String> {
    Some(match notice {
        Notice::SourceFailed { source, .. } => format!("source {source}"),
        Notice::Healed { .. } => "healed".into(),
        Notice::CacheUnusable { .. } => "cache".into(),
        Notice::Waiting { .. } => "waiting".into(),
        Notice::Resumed { .. } => "resumed".into(),
        Notice::ReadFailed { .. } => "read".into(),
        Notice::Accepted { .. }
        | Notice::NotOpened { .. }
        | Notice::OpenedFromCache { .. }
        | Notice::NotCached { .. }
        | Notice::ProfileUnusable { .. }
        | Notice::DeltasUnusable { .. }
        | Notice::NewerVersion(_)
        | Notice::NotRecorded { .. }
        | Notice::RecordIncomplete { .. }
        | Notice::Dropped { .. } => return None,
    })
}

impl Observer for Log {
    fn notice(&self, notice: Notice) {
        let Some(topic) = topic(&notice) else {
            return if matches!(notice, Notice::Dropped { .. } | Notice::NewerVersion(_)) {
                self.say(notice)
            } else {
                self.warn(notice)
            };
        };
        match self.turn(topic) {
            None => {}
            Some(0) => self.say(notice),
            Some(more) => self.say(format_args!("{notice} (and {more} more like this)")),
        }
    }
}
