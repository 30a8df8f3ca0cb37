//! Which bytes will be read next: finds sequential streams among the reads and says how far to be ahead of them.
//!
//! Pure decisions; it fetches nothing. Several streams at once are told apart. A stream has to prove itself by reads
//! that continue each other exactly; from then on it may be disordered a little, because several threads carry its
//! reads. What it is ahead by is counted in bytes that are stored somewhere: holes cost nothing.
//!
//! Most streams end with their file, and what was fetched behind that end was fetched for nothing. So nothing is done for
//! short ones, which most files of a boot are, and a long one is never followed by more than half of what it has read.

use std::ops::Range;

/// How many streams are followed at the same time.
const STREAMS: usize = 8;
/// Reads that continue each other before a stream counts as one.
const PROOF: u32 = 3;
/// What a stream must have read before anything is fetched ahead of it, in bytes.
const LONG: u64 = 2 << 20;
/// The part of what it has read that may be fetched ahead.
const WORTH: u64 = 2;
/// How far from its place a read of a proved stream may be, in bytes.
const DISORDER: u64 = 2 << 20;

#[derive(Debug, Clone, Copy, Default)]
struct Stream {
    /// The end of what was read, in bytes of the image.
    reached: u64,
    /// The end of what was asked for in advance.
    ahead: u64,
    /// Reads in a row.
    reads: u32,
    /// Bytes that they had.
    bytes: u64,
    /// When it was last read from, in reads.
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

/// The streams among the reads of one image.
#[derive(Debug)]
pub struct ReadaheadWindow {
    streams: [Stream; STREAMS],
    window_max: u64,
    reads: u64,
}

impl ReadaheadWindow {
    /// Never more than `window_max` stored bytes ahead.
    pub fn new(window_max: u64) -> Self {
        Self { streams: Default::default(), window_max, reads: 0 }
    }

    /// Takes note of a read of `range`, and says what should be fetched now.
    ///
    /// `advance(from, n)` is the offset at which `n` stored bytes have followed `from`.
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

    /// A new stream takes the place of the one that was read from longest ago.
    fn start(&mut self, range: &Range<u64>) {
        let oldest = self.streams.iter_mut().min_by_key(|s| s.last);
        if let Some(stream) = oldest {
            let bytes = range.end.saturating_sub(range.start);
            *stream = Stream { reached: range.end, ahead: range.end, reads: 1, bytes, last: self.reads };
        }
    }
}

impl Stream {
    /// Asks for a whole window once less than half of one is left; windows grow with what was read.
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
