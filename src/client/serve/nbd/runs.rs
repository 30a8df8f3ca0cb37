//! Where the holes of an image are, in runs: what a block status says and a structured reply leaves out.
//!
//! Pure arithmetic over the map.

use std::ops::Range;

use crate::client::extent_map::{ExtentMap, Segment};

/// The runs that `range` is made of, at most `most`: bytes, and whether they are a hole. Holes of less than `hole_min`
/// bytes count as data.
pub fn runs(map: &ExtentMap, range: Range<u64>, hole_min: usize, most: usize) -> Vec<(u32, bool)> {
    let mut runs: Vec<(u32, bool)> = Vec::new();
    for segment in map.segments(range) {
        let (bytes, hole) = match segment {
            Segment::Hole { bytes } => (bytes, bytes >= hole_min),
            Segment::Block { bytes, .. } => (bytes, false),
        };
        // A range is that of a request, whose bytes fit.
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
