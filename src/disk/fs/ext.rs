//! ext2, ext3 and ext4, read by the crate `ext4-view`.
//!
//! The sizes in the superblock are checked against the image first, because the crate allocates what they ask for.
//! Source of the fields: the kernel's documentation of ext4, "Super Block".

use std::error::Error as StdError;

use ext4_view::{Ext4, Ext4Error, Ext4Read};

use super::file_system::{FileSystem, Kind};
use crate::disk::superblock::{EXT_MAGIC, EXT_MAGIC_AT, SUPERBLOCK_AT, ext_bytes};
use crate::disk::{Window, check_room};
use crate::error::Error;

/// Maximum block size, as a power of two above 1024 bytes: 64 KiB.
const BLOCK_SHIFT_MAX: u32 = 6;
/// Minimum blocks per group, as in mke2fs.
const GROUP_MIN_BLOCKS: u64 = 256;
/// Maximum block groups: 128 TiB with blocks of 4 KiB.
const GROUPS_MAX: u64 = 1 << 20;
/// Bytes read at once.
const CHUNK_BYTES: u64 = 1 << 20;

/// Opens the file system at the start of this window; `None` if it is of another type.
///
/// # Errors
/// An invalid superblock, or one that asks for what cannot be read.
pub fn open(mut window: Window) -> Result<Option<Box<dyn FileSystem>>, Error> {
    let mut superblock = [0; 1024];
    let there = window.read_at(SUPERBLOCK_AT as u64, &mut superblock).is_ok();
    if !there || !superblock[EXT_MAGIC_AT..].starts_with(&EXT_MAGIC) {
        return Ok(None);
    }
    check(&superblock, window.bytes())?;
    let file_system = Ext4::load(Box::new(Reader(window))).map_err(|e| wrong(&e))?;
    Ok(Some(Box::new(Ext(file_system))))
}

/// Checks the sizes in the superblock against the image.
fn check(superblock: &[u8; 1024], window_bytes: u64) -> Result<(), Error> {
    let word = |at: usize| {
        let bytes = [superblock[at], superblock[at + 1], superblock[at + 2], superblock[at + 3]];
        u64::from(u32::from_le_bytes(bytes))
    };
    let is_wide = word(96) & 0x80 != 0;
    let blocks = word(4) | if is_wide { word(336) << 32 } else { 0 };
    let (shift, per_group) = (word(24), word(32));
    let damaged = |why: &str| Err(Error::local(format!("its ext file system is damaged: {why}")));
    if shift > u64::from(BLOCK_SHIFT_MAX) {
        return damaged("no block is that large");
    }
    let Some(bytes) = ext_bytes(superblock) else { return damaged("no disk is that large") };
    check_room(window_bytes, Some(bytes))?;
    if per_group < GROUP_MIN_BLOCKS || blocks.div_ceil(per_group) > GROUPS_MAX {
        return damaged("no file system has so many groups of blocks");
    }
    Ok(())
}

fn wrong(error: &Ext4Error) -> Error {
    Error::local(error.to_string())
}

struct Reader(Window);

impl Ext4Read for Reader {
    fn read(&mut self, start_byte: u64, dst: &mut [u8]) -> Result<(), Box<dyn StdError + Send + Sync>> {
        Ok(self.0.read_at(start_byte, dst)?)
    }
}

struct Ext(Ext4);

impl FileSystem for Ext {
    fn file_system(&self) -> &'static str {
        "ext4"
    }

    fn look(&self, path: &str) -> Result<Option<Kind>, Error> {
        let found = match self.0.symlink_metadata(path) {
            Err(Ext4Error::NotFound) => return Ok(None),
            found => found.map_err(|e| wrong(&e))?,
        };
        let kind = found.file_type();
        Ok(Some(match (kind.is_dir(), kind.is_regular_file(), kind.is_symlink()) {
            (true, ..) => Kind::Directory(found.len()),
            (_, true, _) => Kind::File(found.len()),
            (.., true) => Kind::Link(found.len()),
            _ => Kind::Other,
        }))
    }

    fn read_link(&self, path: &str) -> Result<String, Error> {
        let target = self.0.read_link(path).map_err(|e| wrong(&e))?;
        Ok(target.to_str().map_err(|_| Error::local("a symbolic link that is not UTF-8"))?.to_owned())
    }

    fn list(&self, path: &str, max: usize) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        for (count, entry) in self.0.read_dir(path).map_err(|e| wrong(&e))?.enumerate() {
            if count > max {
                return Err(Error::local(format!("more than {max} names in one directory")));
            }
            let entry = entry.map_err(|e| wrong(&e))?;
            if let Ok(name) = entry.file_name().as_str() {
                names.push(name.to_owned());
            }
        }
        names.retain(|name| name != "." && name != "..");
        Ok(names)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        let mut file = self.0.open(path).map_err(|e| wrong(&e))?;
        let bytes = file.metadata().len();
        let mut read = Vec::new();
        let mut chunk = vec![0; CHUNK_BYTES.min(bytes) as usize];
        loop {
            match file.read_bytes(&mut chunk).map_err(|e| wrong(&e))? {
                0 => break,
                length => read.extend_from_slice(&chunk[..length]),
            }
        }
        match read.len() as u64 == bytes {
            true => Ok(read),
            false => Err(Error::local(format!("only {} of {bytes} bytes could be read", read.len()))),
        }
    }
}
