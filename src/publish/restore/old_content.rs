//! Finds blocks of the image in the old content of the output, wherever they lie: it is cut as the image was.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::each::each;
use super::look::{Lies, look};
use super::work::{State, Work};
use crate::disk::input::Input;
use crate::disk::stated;
use crate::error::{Error, ErrorKind};
use crate::format::digest::Sha256;
use crate::progress::Event;
use crate::publish::pipeline::image::Reading;
use crate::publish::pipeline::workers;
use crate::split::{Cut, Rule};

/// If a device does not tell how much of it is used, this many times the size of the new image is looked through.
const UNKNOWN_TIMES: u64 = 4;

/// Where blocks that are not where they belong lie in the old content, in the order of their bytes.
pub type Found = HashMap<u32, Vec<Range<u64>>>;

/// Keeps the blocks that lie where they belong. In place, also returns where others lie.
///
/// # Errors
/// The user cancelled.
pub fn look_through(work: &Work, jobs: usize) -> Result<Found, Error> {
    let all = work.blocks(State::Missing);
    if !work.out.is_in_place() {
        return look_at(work, jobs, &all);
    }
    // Looking at all places is faster than cutting, and enough if the output is up to date.
    let mut repeated = look_until_wrong(work, jobs, &all)?;
    if work.blocks(State::Missing).is_empty() {
        return Ok(repeated);
    }
    let mut found = cut(work, jobs)?;
    // Where an earlier run was interrupted, the old content may be cut otherwise than the image.
    let left = work.blocks(State::Missing).into_iter().filter(|block| !found.contains_key(block));
    repeated.extend(look_at(work, jobs, &left.collect::<Vec<u32>>())?);
    for (block, places) in repeated {
        found.entry(block).or_insert(places);
    }
    Ok(found)
}

/// Like [`look_at`], until a block lies elsewhere; the others after it may not be looked at.
fn look_until_wrong(work: &Work, jobs: usize, blocks: &[u32]) -> Result<Found, Error> {
    look_while(work, jobs, blocks, |lies| lies != Lies::Not)
}

/// Keeps those of the blocks that lie where they belong; returns where those lie that are only at some of their places.
fn look_at(work: &Work, jobs: usize, blocks: &[u32]) -> Result<Found, Error> {
    look_while(work, jobs, blocks, |_| true)
}

/// Looks at the blocks as long as `goes_on` says so of all before.
fn look_while(work: &Work, jobs: usize, blocks: &[u32], goes_on: impl Fn(Lies) -> bool + Sync) -> Result<Found, Error> {
    let (repeated, is_over) = (Mutex::new(Found::new()), AtomicBool::new(false));
    each(work, jobs, blocks, |&block, bytes| {
        if is_over.load(Ordering::Relaxed) {
            return Ok(());
        }
        let lies = look(&work.out, &work.places, block, &work.index.blocks()[block as usize], bytes);
        is_over.fetch_or(!goes_on(lies), Ordering::Relaxed);
        match lies {
            Lies::Right => work.keep(block),
            Lies::Partly => {
                let read = work.places.cover(block).map(|part| part.at..part.at + u64::from(part.bytes));
                repeated.lock().unwrap_or_else(PoisonError::into_inner).insert(block, read.collect());
            }
            Lies::Not => {}
        }
        Ok(())
    })?;
    Ok(repeated.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Cuts the old content by the rule of the image.
fn cut(work: &Work, jobs: usize) -> Result<Found, Error> {
    let warn = |text: String| work.watch.progress.event(Event::Warning(&text));
    let rule = match Rule::try_from(&work.index.header().split) {
        Ok(rule) => rule,
        Err(e) => {
            warn(format!("blocks that lie elsewhere in the old content are not found: {e}"));
            return Ok(Found::new());
        }
    };
    let path = work.out.path();
    let file = work.out.file().try_clone().map_err(|e| Error::io(path, &e))?;
    let image = Input::raw(file, path, work.out.old_bytes());
    let bytes = used_bytes(work, &image);
    if bytes == 0 {
        return Ok(Found::new());
    }
    let file = work.out.file().try_clone().map_err(|e| Error::io(path, &e))?;
    let image = Input::raw(file, path, bytes);
    let wanted: HashMap<Sha256, u32> = work.index.blocks().iter().map(|row| row.sha256).zip(0..).collect();
    let places = Mutex::new(OldPlaces { found: Found::new(), right: vec![0; work.index.blocks().len()] });
    let take = |(): &mut (), cut: Cut| {
        let sha256 = Sha256::of(&cut.bytes);
        match wanted.get(&sha256) {
            Some(&block) => places.lock().unwrap_or_else(PoisonError::into_inner).take(work, block, &cut),
            None => work.save_base(&sha256, &cut.bytes),
        }
        Ok(())
    };
    let reading = Reading::exact(rule);
    let done = workers::work_on_blocks(&image, reading, jobs, &work.watch.cancel, &|_| {}, || (), take);
    match done {
        Err(e) if e.kind() == ErrorKind::Interrupted || work.watch.cancel.load(Ordering::Relaxed) => {
            return Err(work.interrupted());
        }
        // What cannot be read is replaced.
        Err(e) => warn(format!("not all of the old content can be read: {e}")),
        Ok(_) => {}
    }
    Ok(places.into_inner().unwrap_or_else(PoisonError::into_inner).found)
}

/// How much of the old content may hold blocks: all of a file, but a device may be much larger than what is on it.
fn used_bytes(work: &Work, image: &Input) -> u64 {
    let (all, new) = (work.out.old_bytes(), work.index.size());
    if !work.out.is_device() {
        return all;
    }
    let stated = stated(&mut |at, out| image.read_at(at, out)).map(|stated| stated.bytes.max(new));
    all.min(stated.unwrap_or(new * UNKNOWN_TIMES))
}

/// What the pass has found.
struct OldPlaces {
    found: Found,
    /// For each block, how many bytes of its places are right.
    right: Vec<u64>,
}

impl OldPlaces {
    fn take(&mut self, work: &Work, block: u32, cut: &Cut) {
        if !work.is_missing(block) {
            return;
        }
        let mut offset = 0;
        for span in &cut.spans {
            let range = span.offset..span.offset + span.len;
            self.right[block as usize] += work.places.right_bytes(block, offset, range);
            offset += span.len;
        }
        if self.right[block as usize] == work.places.bytes_of(block) {
            self.found.remove(&block);
            work.keep(block);
        } else {
            let ranges = || cut.spans.iter().map(|span| span.offset..span.offset + span.len).collect();
            self.found.entry(block).or_insert_with(ranges);
        }
    }
}
