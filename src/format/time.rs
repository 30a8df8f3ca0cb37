//! Points in time as the formats write them: RFC 3339, UTC, whole seconds, `2026-11-22T19:50:00Z`.
//!
//! No clock is read here; the caller passes the time in.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z, up to the end of the year 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

const LAST: u64 = 253_402_300_799;

impl Timestamp {
    /// `seconds` after the epoch, at most the end of the year 9999.
    pub fn from_unix(seconds: u64) -> Self {
        Self(seconds.min(LAST))
    }

    /// `time` rounded down to a second; times before the epoch are the epoch.
    pub fn from_system(time: SystemTime) -> Self {
        Self::from_unix(time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
    }

    /// Seconds since the epoch.
    pub fn unix(self) -> u64 {
        self.0
    }

    /// One second later.
    pub fn next(self) -> Self {
        Self::from_unix(self.0 + 1)
    }

    /// This time and `days` days.
    pub fn plus_days(self, days: u32) -> Self {
        Self::from_unix(self.0 + u64::from(days) * 86_400)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(self.0)).fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let time = humantime::parse_rfc3339(text).map_err(|_| TimestampError)?;
        let time = Self::from_system(time);
        if time.to_string() == text { Ok(time) } else { Err(TimestampError) }
    }
}

/// The error for a text that is not a time in exactly this form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a time like 2026-11-22T19:50:00Z")]
pub struct TimestampError;
