//! Readahead: finds sequential streams among the reads and decides how far to read ahead of them.
//!
//! Pure decisions; it fetches nothing. Several concurrent streams are distinguished. A stream must first prove itself
//! by reads that continue each other exactly. After that it may be slightly out of order, because several threads carry
//! its reads. The distance ahead counts stored bytes only: holes cost nothing.
//!
//! Most streams end with their file, and readahead beyond that end is wasted. So there is none for short streams, which
//! are most files of a boot, and at most half of what a long stream has read.

use std::ops::Range;

/// Streams followed at the same time.
const STREAMS: usize = 8;
/// Consecutive reads before a stream is recognised.
const PROOF: u32 = 3;
/// Bytes a stream must have read before readahead starts.
const LONG: u64 = 2 << 20;
/// One part in this many of what a stream has read may be read ahead.
const WORTH: u64 = 2;
/// How far out of order a read of a proved stream may be, in bytes.
const DISORDER: u64 = 2 << 20;

#[derive(Debug, Clone, Copy, Default)]
struct Stream {
    /// End of what was read, as an offset in the image.
    reached: u64,
    /// End of what was requested in advance, as an offset in the image.
    ahead: u64,
    /// Number of consecutive reads.
    reads: u32,
    /// Bytes read.
    bytes: u64,
    /// Number of the last read, counted over all streams.
    last: u64,
}

impl Stream {
    fn is_continued_by(&self, range: &Range<u64>) -> bool {
        if self.reads < PROOF {
            return self.reads > 0 && self.reached == range.start;
        }
        self.reached.abs_diff(range.start) <= DISORDER
    }
}

/// The streams of one image.
#[derive(Debug)]
pub struct ReadaheadWindow {
    streams: [Stream; STREAMS],
    window_max: u64,
    reads: u64,
}

impl ReadaheadWindow {
    /// Reads ahead by at most `window_max` stored bytes.
    pub fn new(window_max: u64) -> Self {
        Self { streams: Default::default(), window_max, reads: 0 }
    }

    /// Records a read of `range`, and returns the range to prefetch now, if any.
    ///
    /// `advance(from, n)` returns the offset that is `n` stored bytes after `from`.
    pub fn read(&mut self, range: &Range<u64>, advance: impl Fn(u64, u64) -> u64) -> Option<Range<u64>> {
        self.reads += 1;
        let now = self.reads;
        let Some(stream) = self.streams.iter_mut().find(|s| s.is_continued_by(range)) else {
            self.start(range);
            return None;
        };
        stream.last = now;
        stream.reads = stream.reads.saturating_add(1);
        stream.bytes = stream.bytes.saturating_add(range.end.saturating_sub(range.start));
        stream.reached = stream.reached.max(range.end);
        if stream.reads < PROOF || stream.bytes < LONG.min(self.window_max * WORTH) {
            return None;
        }
        stream.plan(self.window_max, advance)
    }

    /// Starts a stream in place of the least recently read one.
    fn start(&mut self, range: &Range<u64>) {
        let oldest = self.streams.iter_mut().min_by_key(|s| s.last);
        if let Some(stream) = oldest {
            let bytes = range.end.saturating_sub(range.start);
            *stream = Stream { reached: range.end, ahead: range.end, reads: 1, bytes, last: self.reads };
        }
    }
}

impl Stream {
    /// Returns a whole window once less than half of one is left; windows grow with what was read.
    fn plan(&mut self, window_max: u64, advance: impl Fn(u64, u64) -> u64) -> Option<Range<u64>> {
        let window = (self.bytes / WORTH).min(window_max);
        let from = self.ahead.max(self.reached);
        if self.ahead > self.reached && advance(self.reached, window / 2) < self.ahead {
            return None;
        }
        let to = advance(self.reached, window);
        if to <= from {
            return None;
        }
        self.ahead = to;
        Some(from..to)
    }
}
