//! Reading a profile.

use super::{BLOCKS_MAX, FILE_MAX_BYTES, FirstRead, LINE_MAX_BYTES, MS_MAX, Profile};
use crate::format::digest::BlockId;
use crate::format::index::IMAGE_MAX_BYTES;
use crate::format::text::{FormatError, Line, Lines};

/// Lines before the first read: the format line, three of the header, the separator.
const LINES_BEFORE_READS: usize = 5;
/// Minimum length of a row, with its LF: bounds the number of rows before any allocation.
const ROW_MIN_BYTES: u64 = 40 + 1 + 1 + 1 + 1 + 1;

impl Profile {
    /// Reads a profile file.
    ///
    /// Accepts only what [`Profile::to_bytes`] would write, so `parse(y)?.to_bytes() == y` for every accepted `y`.
    ///
    /// # Errors
    /// The first invalid line, with the reason.
    pub fn parse(file: &[u8]) -> Result<Self, FormatError> {
        if file.len() as u64 > FILE_MAX_BYTES {
            return Err(FormatError::whole(format!("{} bytes, at most {FILE_MAX_BYTES} are allowed", file.len())));
        }
        let mut lines = Lines::open(file, "HFL-PROFILE", LINE_MAX_BYTES)?;
        let image = lines.header("image")?.parse()?;
        let version = lines.header("version")?.parse()?;
        let count = lines.count("blocks", BLOCKS_MAX, ROW_MIN_BYTES)?;
        lines.separator("the header")?;
        let mut reads = Vec::with_capacity(count);
        while reads.len() < count && !lines.rest().starts_with(b"end ") {
            reads.push(row(&mut lines.next()?)?);
        }
        if reads.len() < count {
            let why = format!("{count} blocks announced, {} found", reads.len());
            return Err(FormatError::line(lines.number() + 1, why));
        }
        lines.end(file)?;
        Self::new(image, version, reads).map_err(|e| match e.read {
            Some(i) => FormatError::line((LINES_BEFORE_READS + 1 + i) as u64, e.why),
            None => FormatError::whole(e.why),
        })
    }
}

fn row(line: &mut Line<'_>) -> Result<FirstRead, FormatError> {
    let id = BlockId(line.hex("a SHA-1")?);
    line.space()?;
    let ms = line.number("the milliseconds since the start", 0, MS_MAX)?;
    line.space()?;
    let offset = line.number("the offset in the image", 0, IMAGE_MAX_BYTES - 1)?;
    line.end()?;
    Ok(FirstRead { id, ms, offset })
}
