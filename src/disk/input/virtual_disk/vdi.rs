//! Whether a VDI is complete: `qemu-img` reads zeros behind the end of the file, and its check does not notice.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::error::Error;
use crate::partitions::number;

/// Length of the part of the header that is read, and offsets of its fields, from VirtualBox's VDICore.h, version 1.1.
const HEADER_BYTES: usize = 0x188;
const DATA_OFFSET: usize = 0x158;
const BLOCK_BYTES: usize = 0x178;
const BLOCK_EXTRA_BYTES: usize = 0x17c;
const BLOCKS_ALLOCATED: usize = 0x184;

/// Checks that the file has all blocks that its header counts.
///
/// # Errors
/// It has not.
pub fn check_size(file: &File, path: &Path) -> Result<(), Error> {
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0).map_err(|e| Error::io(path, &e))?;
    let field = |at: usize| number(&header[at..at + 4]);
    let end = field(DATA_OFFSET) + field(BLOCKS_ALLOCATED) * (field(BLOCK_BYTES) + field(BLOCK_EXTRA_BYTES));
    let size = file.metadata().map_err(|e| Error::io(path, &e))?.len();
    if size >= end {
        return Ok(());
    }
    Err(Error::local(format!("{}: VDI: {size} bytes, its blocks need {end}: was it cut off?", path.display()))
        .hint("check where it comes from"))
}
