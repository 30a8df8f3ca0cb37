//! Reads back what was written, from the medium and not from memory, and compares it.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::each::each;
use super::look::{Lies, look};
use super::work::{State, Work};
use crate::error::Error;
use crate::progress::{Event, Phase};

/// Compares the blocks that were written, and the ranges that were `zeroed`, with the image; returns how many bytes that
/// were. The output has been synced.
///
/// # Errors
/// The medium returns other bytes than were written.
pub fn read_back(work: &Work, zeroed: &[Range<u64>], jobs: usize) -> Result<u64, Error> {
    work.enter(Phase::Verify);
    work.out.drop_cache();
    let (bytes, bad) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let count = |read: u64| {
        bytes.fetch_add(read, Ordering::Relaxed);
        work.watch.progress.event(Event::ReadBack { bytes: read });
    };
    let is_bad = |at: u64| bad.lock().unwrap_or_else(PoisonError::into_inner).push(at);
    each(work, jobs, &work.blocks(State::Written), |&block, buffer| {
        if look(&work.out, &work.places, block, &work.index.blocks()[block as usize], buffer) != Lies::Right {
            is_bad(work.places.of_block(block).next().map_or(0, |run| run.at));
        }
        count(work.places.bytes_of(block));
        Ok(())
    })?;
    for range in zeroed {
        work.check_cancelled()?;
        if !work.out.is_zero(range.clone()).unwrap_or(false) {
            is_bad(range.start);
        }
        count(range.end - range.start);
    }
    let bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
    match bad.iter().min() {
        None => Ok(bytes.into_inner()),
        Some(first) => {
            let (path, parts) = (work.out.path().display(), bad.len());
            let error = Error::local(format!(
                "{path}: reading back, {parts} parts are not what was written, the first at byte {first}"
            ));
            Err(error.hint("the medium or the way to it loses data: see dmesg; the image is not complete"))
        }
    }
}
