//! Runs of data and holes in an image, for block status and structured replies.
//!
//! Pure arithmetic over the extent map.

use std::ops::Range;

use crate::client::extent_map::{ExtentMap, Segment};

/// The runs of `range`, at most `most`: size in bytes, and whether it is a hole. Holes of less than `hole_min` bytes
/// count as data.
pub fn runs(map: &ExtentMap, range: Range<u64>, hole_min: usize, most: usize) -> Vec<(u32, bool)> {
    let mut runs: Vec<(u32, bool)> = Vec::new();
    for segment in map.segments(range) {
        let (bytes, hole) = match segment {
            Segment::Hole { bytes } => (bytes, bytes >= hole_min),
            Segment::Block { bytes, .. } => (bytes, false),
        };
        // The range is that of a request, whose size fits.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let full = runs.len() == most;
        match runs.last_mut() {
            Some((held, kind)) if *kind == hole => *held = held.saturating_add(bytes),
            _ if full => break,
            _ => runs.push((bytes, hole)),
        }
    }
    runs
}
