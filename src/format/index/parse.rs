//! Reading an index.

use super::check::Place;
use super::{
    BLOCKS_MAX, EXTENTS_MAX, Extent, ExtentSource, FILE_MAX_BYTES, Header, IMAGE_MAX_BYTES, Index, LINE_MAX_BYTES,
};
use crate::format::block::BlockRow;
use crate::format::block::{BLOCK_MAX_BYTES, zlib_max_bytes};
use crate::format::digest::{BlockId, Sha256};
use crate::format::name::Version;
use crate::format::text::{FormatError, Line, Lines};

/// Number of the line with the image size.
const SIZE_LINE: u64 = 5;
/// Lines before the first block row: the format line, eight of the header, the separator.
const LINES_BEFORE_BLOCKS: usize = 10;
/// Minimum lengths of rows, with their LF: they bound the number of rows before any allocation.
const BLOCK_ROW_MIN_BYTES: u64 = 40 + 1 + 64 + 1 + 1 + 1 + 1 + 1;
const EXTENT_ROW_MIN_BYTES: u64 = 4;

impl Index {
    /// Reads an index file.
    ///
    /// Accepts only what [`Index::to_bytes`] would write, so `parse(y)?.to_bytes() == y` for every accepted `y`.
    ///
    /// # Errors
    /// The first invalid line, with the reason.
    pub fn parse(file: &[u8]) -> Result<Self, FormatError> {
        if file.len() as u64 > FILE_MAX_BYTES {
            return Err(FormatError::whole(format!("{} bytes, at most {FILE_MAX_BYTES} are allowed", file.len())));
        }
        let mut lines = Lines::open(file, super::MAGIC, LINE_MAX_BYTES)?;
        let header = header(&mut lines)?;
        let blocks = lines.count("blocks", BLOCKS_MAX, BLOCK_ROW_MIN_BYTES)?;
        let extents = lines.count("extents", EXTENTS_MAX, EXTENT_ROW_MIN_BYTES)?;
        lines.separator("the header")?;
        let blocks = rows(&mut lines, blocks, "blocks", block_row)?;
        lines.separator("the blocks")?;
        let extents = rows(&mut lines, extents, "extents", extent)?;
        lines.end(file)?;
        let first_extent_line = LINES_BEFORE_BLOCKS + blocks.len() + 2;
        Index::new(header, blocks, extents).map_err(|e| match e.place {
            Place::Block(i) => FormatError::line((LINES_BEFORE_BLOCKS + 1 + i) as u64, e.why),
            Place::Extent(i) => FormatError::line((first_extent_line + i) as u64, e.why),
            Place::Size => FormatError::line(SIZE_LINE, e.why),
            Place::Whole => FormatError::whole(e.why),
        })
    }
}

fn header(lines: &mut Lines<'_>) -> Result<Header, FormatError> {
    let image = lines.header("image")?.parse()?;
    let version: Version = lines.header("version")?.parse()?;
    let created = lines.header("created")?.parse()?;
    let mut line = lines.header("size")?;
    let size = line.number("size", 1, IMAGE_MAX_BYTES)?;
    line.end()?;
    let split = lines.header(super::split::KEY)?.parse()?;
    let mut line = lines.header("parent")?;
    let parent = if line.rest() == b"-" { None } else { Some(Sha256(line.hex("a SHA-256 or `-`")?)) };
    if parent.is_some() {
        line.end()?;
    }
    Ok(Header { image, version, created, size, split, parent })
}

/// Reads `count` rows, and says how many there are if it is another number.
pub(crate) fn rows<T>(
    lines: &mut Lines<'_>,
    count: usize,
    what: &str,
    row: impl Fn(&mut Line<'_>) -> Result<T, FormatError>,
) -> Result<Vec<T>, FormatError> {
    let mut rows = Vec::with_capacity(count);
    let (separator, end): (&[u8], &[u8]) = (b"--\n", b"end ");
    while rows.len() < count {
        if lines.rest().starts_with(separator) || lines.rest().starts_with(end) {
            let why = format!("{count} {what} announced, {} found", rows.len());
            return Err(FormatError::line(lines.number() + 1, why));
        }
        let mut line = lines.next()?;
        rows.push(row(&mut line)?);
        line.end()?;
    }
    let first_more = lines.number() + 1;
    let mut found = count;
    while !lines.rest().is_empty() && !lines.rest().starts_with(separator) && !lines.rest().starts_with(end) {
        lines.next()?;
        found += 1;
    }
    if found > count {
        return Err(FormatError::line(first_more, format!("{count} {what} announced, {found} found")));
    }
    Ok(rows)
}

/// Reads the row of a block.
pub(crate) fn block_row(line: &mut Line<'_>) -> Result<BlockRow, FormatError> {
    let id = BlockId(line.hex("a SHA-1")?);
    line.space()?;
    let sha256 = Sha256(line.hex("a SHA-256")?);
    line.space()?;
    let bytes = line.number("the block's bytes", 1, u64::from(BLOCK_MAX_BYTES))? as u32;
    line.space()?;
    let zlib_bytes = line.number("the bytes of its file", 1, zlib_max_bytes(bytes))? as u32;
    Ok(BlockRow { id, sha256, bytes, zlib_bytes })
}

fn extent(line: &mut Line<'_>) -> Result<Extent, FormatError> {
    let bytes = line.number("the extent's bytes", 1, IMAGE_MAX_BYTES)?;
    line.space()?;
    if line.rest() == b"-" {
        line.skip_rest();
        return Ok(Extent { bytes, from: ExtentSource::Hole });
    }
    let block = line.number("a block or `-`", 0, BLOCKS_MAX - 1)? as u32;
    line.space()?;
    let offset = line.number("the offset in the block", 0, u64::from(BLOCK_MAX_BYTES) - 1)? as u32;
    Ok(Extent { bytes, from: ExtentSource::Block { block, offset } })
}
