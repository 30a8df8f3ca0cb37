//! One pass over the image on all cores: read, split, hash, and compress new blocks.
//!
//! The result is the list of blocks and extents for the new index.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::image::Reading;
use super::spool::{Spool, Spooled};
use super::workers;
use crate::disk::input::Input;
use crate::error::Error;
use crate::format::block::{BlockRow, Codec, Compressor};
use crate::format::difference::Tally;
use crate::format::digest::{BlockId, Sha256};
use crate::format::index::{Extent, ExtentSource, Index};
use crate::progress::{Event, Fate, Progress};
use crate::publish::base::block_holders::{BlockHolders, KnownBlock, MirrorSet, collision};
use crate::split::Cut;
use crate::weaken::{self, Weakness};

/// Parameters of the pass.
pub struct Options<'a> {
    /// How the image is read and cut.
    pub reading: Reading,
    /// Codec of new blocks.
    pub codec: Codec,
    /// Number of worker threads.
    pub jobs: usize,
    /// Blocks already on the mirrors, which need no compression.
    pub known: &'a BlockHolders,
    /// The mirrors that must all hold a block for it to be skipped.
    pub mirrors: MirrorSet,
    /// Where new blocks wait for upload.
    pub spool: &'a Arc<Spool>,
    /// Called repeatedly while a worker waits for room in the spool.
    pub full: &'a (dyn Fn() + Sync),
    /// Set when the user cancels.
    pub cancel: &'a AtomicBool,
    /// Receives progress events.
    pub progress: &'a dyn Progress,
}

/// Result of the pass.
#[derive(Debug, Default)]
pub struct CutImage {
    /// Image size in bytes.
    pub size: u64,
    /// Blocks in index order.
    pub blocks: Vec<BlockRow>,
    /// Extents in image order.
    pub extents: Vec<Extent>,
    /// Blocks new to the repository.
    pub new: Tally,
    /// Blocks that the repository has already.
    pub known: Tally,
    /// Known blocks that some mirror lacks; they are compressed again.
    pub remade: HashSet<BlockId>,
    /// Bytes of blocks that repeat within the image.
    pub repeated_bytes: u64,
    /// Bytes in holes.
    pub hole_bytes: u64,
    /// Bytes of old data in blocks that ext4 calls free.
    pub free_bytes: u64,
    /// SHA-256 of the image, if it was computed.
    pub sha256: Option<Sha256>,
}

/// A contiguous range of the image that is stored in one block.
struct Segment {
    offset: u64,
    bytes: u32,
    block: u32,
    block_offset: u32,
}

/// State shared by all worker threads.
struct IndexBuilder<'a> {
    options: &'a Options<'a>,
    state: Mutex<State>,
    deliver: &'a (dyn Fn(Spooled) + Sync),
}

#[derive(Default)]
struct State {
    blocks: Vec<BlockRow>,
    places: HashMap<Sha256, u32>,
    names: HashSet<BlockId>,
    segments: Vec<Segment>,
    new: Tally,
    known: Tally,
    remade: HashSet<BlockId>,
    repeated_bytes: u64,
}

/// Cuts the image; `deliver` receives each new block once it is in the spool.
///
/// # Errors
/// A failed read or compression; the user cancelled.
pub fn cut(image: &Input, options: &Options<'_>, deliver: &(dyn Fn(Spooled) + Sync)) -> Result<CutImage, Error> {
    let builder = IndexBuilder { options, state: Mutex::default(), deliver };
    let passed = |bytes| options.progress.event(Event::Read { bytes });
    let sealer = || Compressor::new(options.codec);
    let passed = workers::work_on_blocks(
        image,
        options.reading,
        options.jobs,
        options.cancel,
        &passed,
        sealer,
        |sealer, cut| builder.take(cut, sealer),
    )?;
    let state = builder.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(CutImage { free_bytes: passed.free_bytes, sha256: passed.sha256, ..lay_out(passed.size, state) })
}

impl IndexBuilder<'_> {
    fn take(&self, cut: Cut, sealer: &mut Compressor) -> Result<(), Error> {
        // One hash tells a block that is known or repeated; only new ones need their name.
        let (sha256, bytes) = (Sha256::of(&cut.bytes), cut.bytes.len() as u64);
        if self.enter_again(&sha256, &cut) {
            self.options.progress.event(Event::Block { bytes, fate: Fate::Again });
            return Ok(());
        }
        let found = self.options.known.of_contents(&sha256);
        let row = match found {
            Some(known) => known.row,
            None => self.name(&cut, sha256)?,
        };
        let (place, first) = self.enter(row, &cut)?;
        let fate = match (first, found) {
            (false, _) => Fate::Again,
            (true, Some(known)) if self.is_held(known) => Fate::Known,
            (true, _) => {
                self.seal(place, &cut, row, sealer)?;
                Fate::New
            }
        };
        self.options.progress.event(Event::Block { bytes, fate });
        Ok(())
    }

    /// Whether every mirror holds the block, so that it need not be compressed again.
    fn is_held(&self, known: &KnownBlock) -> bool {
        let some = weaken::is(Weakness::Remake) && known.holders != MirrorSet::default();
        some || known.holders.contains_all(self.options.mirrors)
    }

    /// The row of a new block, with the name of its file.
    fn name(&self, cut: &Cut, sha256: Sha256) -> Result<BlockRow, Error> {
        let id = BlockId::of(&cut.bytes);
        match self.options.known.get(&id) {
            Some(_) => Err(collision(&id)),
            None => Ok(BlockRow { id, sha256, bytes: cut.bytes.len() as u32, zlib_bytes: 0 }),
        }
    }

    /// Records where a block occurs that has occurred before; returns whether it has.
    fn enter_again(&self, sha256: &Sha256, cut: &Cut) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(&place) = state.places.get(sha256) else { return false };
        state.occurs_again(place, cut);
        true
    }

    /// Records where the block occurs; returns its number, and whether this is its first occurrence.
    fn enter(&self, row: BlockRow, cut: &Cut) -> Result<(u32, bool), Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let next = state.blocks.len() as u32;
        let place = *state.places.entry(row.sha256).or_insert(next);
        if place != next {
            state.occurs_again(place, cut);
            return Ok((place, false));
        }
        if !state.names.insert(row.id) {
            return Err(collision(&row.id));
        }
        state.blocks.push(row);
        if row.zlib_bytes > 0 {
            state.known.add(&row);
        }
        state.occurs(place, cut);
        Ok((place, true))
    }

    fn seal(&self, place: u32, cut: &Cut, row: BlockRow, sealer: &mut Compressor) -> Result<(), Error> {
        let sealed = sealer.seal(&cut.bytes, row.id, row.sha256).map_err(|e| Error::local(e.to_string()))?;
        let made = *sealed.row();
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if row.zlib_bytes > 0 {
                state.remade.insert(row.id);
            } else {
                state.blocks[place as usize] = made;
                state.new.add(&made);
            }
        }
        let go_on = || {
            (self.options.full)();
            !self.options.cancel.load(Ordering::Relaxed)
        };
        let spooled = self.options.spool.put(made, sealed.into_file(), &go_on);
        (self.deliver)(spooled.ok_or_else(Error::interrupted)?);
        Ok(())
    }
}

impl State {
    fn occurs_again(&mut self, place: u32, cut: &Cut) {
        self.repeated_bytes += cut.bytes.len() as u64;
        self.occurs(place, cut);
    }

    fn occurs(&mut self, place: u32, cut: &Cut) {
        let mut block_offset = 0;
        for span in &cut.spans {
            self.segments.push(Segment { offset: span.offset, bytes: span.len as u32, block: place, block_offset });
            block_offset += span.len as u32;
        }
    }
}

/// Sorts the segments by image offset, and the blocks by first use.
fn lay_out(size: u64, mut state: State) -> CutImage {
    const UNUSED: u32 = u32::MAX;
    state.segments.sort_unstable_by_key(|s| s.offset);
    let mut places = vec![UNUSED; state.blocks.len()];
    let mut out = CutImage { size, new: state.new, known: state.known, ..CutImage::default() };
    (out.remade, out.repeated_bytes) = (state.remade, state.repeated_bytes);
    out.blocks.reserve_exact(state.blocks.len());
    let mut at = 0;
    for segment in &state.segments {
        out.hole(segment.offset - at);
        let place = &mut places[segment.block as usize];
        if *place == UNUSED {
            *place = out.blocks.len() as u32;
            out.blocks.push(state.blocks[segment.block as usize]);
        }
        let from = ExtentSource::Block { block: *place, offset: segment.block_offset };
        Extent { bytes: u64::from(segment.bytes), from }.push_to(&mut out.extents);
        at = segment.offset + u64::from(segment.bytes);
    }
    out.hole(size - at);
    out
}

impl CutImage {
    /// The result of a pass over the image of `index` when all of its blocks are known.
    pub fn of(index: &Index) -> Self {
        let mut known = Tally::default();
        index.blocks().iter().for_each(|row| known.add(row));
        let (blocks, extents) = (index.blocks().to_vec(), index.extents().to_vec());
        Self { size: index.size(), blocks, extents, known, hole_bytes: index.hole_bytes(), ..Self::default() }
    }

    fn hole(&mut self, bytes: u64) {
        if bytes > 0 {
            Extent { bytes, from: ExtentSource::Hole }.push_to(&mut self.extents);
            self.hole_bytes += bytes;
        }
    }
}
