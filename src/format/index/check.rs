//! Validity of an index: the rules beyond the syntax of single lines.

use super::by_name::ByName;
use super::{BLOCKS_MAX, EXTENTS_MAX, Extent, ExtentSource, Header, IMAGE_MAX_BYTES};
use crate::format::block::BLOCK_MAX_BYTES;
use crate::format::block::BlockRow;

/// The part of an index that violates a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The size in the header.
    Size,
    /// The block at this position, counted from 0.
    Block(usize),
    /// The extent at this position, counted from 0.
    Extent(usize),
    /// The index as a whole.
    Whole,
}

/// A violated rule, and the part that violates it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct IndexError {
    /// The part of the index.
    pub place: Place,
    /// The rule, as a sentence.
    pub why: String,
}

fn broken(place: Place, why: impl Into<String>) -> IndexError {
    IndexError { place, why: why.into() }
}

pub(super) fn check(header: &Header, blocks: &[BlockRow], extents: &[Extent]) -> Result<(), IndexError> {
    limits(header, blocks, extents)?;
    names(blocks)?;
    sizes(blocks)?;
    cover(header, extents)?;
    uses(blocks, extents)
}

fn limits(header: &Header, blocks: &[BlockRow], extents: &[Extent]) -> Result<(), IndexError> {
    if !(1..=IMAGE_MAX_BYTES).contains(&header.size) {
        return Err(broken(Place::Size, format!("size is outside the limits, 1 to {IMAGE_MAX_BYTES}")));
    }
    if blocks.len() as u64 > BLOCKS_MAX {
        let why = format!("{} blocks, at most {BLOCKS_MAX} are allowed: use larger blocks", blocks.len());
        return Err(broken(Place::Whole, why));
    }
    if extents.len() as u64 > EXTENTS_MAX {
        let why = format!("{} extents, at most {EXTENTS_MAX} are allowed: use larger blocks", extents.len());
        return Err(broken(Place::Whole, why));
    }
    Ok(())
}

/// Each block is listed once, and no name has two contents.
fn names(blocks: &[BlockRow]) -> Result<(), IndexError> {
    let Some((i, first)) = ByName::new(blocks).repeated() else { return Ok(()) };
    let id = blocks[i].id;
    let why = if blocks[first].sha256 == blocks[i].sha256 {
        format!("block {id} is listed twice")
    } else {
        format!("block {id} stands for two contents: a SHA-1 collision")
    };
    Err(broken(Place::Block(i), why))
}

fn sizes(blocks: &[BlockRow]) -> Result<(), IndexError> {
    for (i, row) in blocks.iter().enumerate() {
        if row.bytes == 0 || row.bytes > BLOCK_MAX_BYTES {
            return Err(broken(Place::Block(i), format!("a block has 1 to {BLOCK_MAX_BYTES} bytes")));
        }
        if row.zlib_bytes == 0 || u64::from(row.zlib_bytes) > crate::format::block::zlib_max_bytes(row.bytes) {
            return Err(broken(Place::Block(i), format!("{} bytes of zlib cannot be right", row.zlib_bytes)));
        }
    }
    Ok(())
}

/// The extents add up to the image, and no two neighbours could be merged.
fn cover(header: &Header, extents: &[Extent]) -> Result<(), IndexError> {
    let mut end: u64 = 0;
    for (i, extent) in extents.iter().enumerate() {
        end = end.checked_add(extent.bytes).filter(|&e| extent.bytes > 0 && e <= header.size).ok_or_else(|| {
            broken(Place::Extent(i), format!("the extent does not fit the image's {} bytes", header.size))
        })?;
        if i > 0 && extents[i - 1].continues_in(extent) {
            return Err(broken(Place::Extent(i), "continues the extent before it, the two must be one"));
        }
    }
    if end == header.size {
        return Ok(());
    }
    Err(broken(Place::Size, format!("the extents add up to {end} bytes, the image has {}", header.size)))
}

/// The blocks are in the order of their first use, and every byte of each is used.
fn uses(blocks: &[BlockRow], extents: &[Extent]) -> Result<(), IndexError> {
    let mut used_to: Vec<u32> = Vec::with_capacity(blocks.len());
    let mut out_of_order: Vec<(u32, u32, u32)> = Vec::new();
    for (i, extent) in extents.iter().enumerate() {
        let ExtentSource::Block { block, offset } = extent.from else { continue };
        let Some(row) = blocks.get(block as usize) else {
            return Err(broken(Place::Extent(i), format!("there is no block {block}, there are {}", blocks.len())));
        };
        if u64::from(offset) + extent.bytes > u64::from(row.bytes) {
            let why = format!("block {block} has {} bytes, the extent goes beyond them", row.bytes);
            return Err(broken(Place::Extent(i), why));
        }
        let end = offset + extent.bytes as u32;
        if block as usize > used_to.len() {
            return Err(broken(Place::Extent(i), format!("block {block} is named before block {}", used_to.len())));
        }
        if block as usize == used_to.len() {
            used_to.push(0);
        }
        let reached = &mut used_to[block as usize];
        if offset <= *reached {
            *reached = end.max(*reached);
        } else {
            out_of_order.push((block, offset, end));
        }
    }
    out_of_order.sort_unstable();
    for (block, offset, end) in out_of_order {
        let reached = &mut used_to[block as usize];
        if offset <= *reached {
            *reached = end.max(*reached);
        }
    }
    if let Some(unnamed) = blocks.get(used_to.len()) {
        return Err(broken(Place::Block(used_to.len()), format!("no extent names block {}", unnamed.id)));
    }
    match used_to.iter().zip(blocks).position(|(&reached, row)| reached < row.bytes) {
        Some(i) => Err(broken(Place::Block(i), format!("no extent uses byte {} of the block", used_to[i]))),
        None => Ok(()),
    }
}
