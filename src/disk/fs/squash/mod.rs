//! squashfs 4.0, as far as needed to find a few files: what is not requested is never read.
//!
//! The crate backhand is not used: it holds the whole tree with the full path of each file, and descends recursively.
//! An image with directories nested deep enough would exhaust memory or the stack. Source of the format: the kernel's
//! documentation "Squashfs 4.0 Filesystem" and its squashfs_fs.h.

mod blocks;
mod codec;
mod inode;

use std::cell::RefCell;
use std::fmt::Display;

use self::blocks::{Blocks, Text, stored_bytes};
use self::codec::{BLOCK_MAX_BYTES, Codec};
use self::inode::{Directory, File, Inode};
use super::file_system::{FileSystem, Kind};
use crate::disk::superblock::{SQUASHFS_MAGIC, squashfs_bytes};
use crate::disk::{Window, check_room};
use crate::error::Error;

const SUPERBLOCK_BYTES: usize = 96;
const BLOCK_MIN_BYTES: u32 = 4096;
/// Fragment entries per metadata block, and the size of each in bytes.
const FRAGMENTS_PER_BLOCK: u64 = 512;
const FRAGMENT_BYTES: usize = 16;
/// Maximum entries after one directory header.
const ENTRIES_MAX: u32 = 256;
/// Maximum length of a name in bytes.
const NAME_MAX_BYTES: usize = 256;

/// Opens the file system at the start of this window; `None` if it is of another type.
///
/// # Errors
/// An invalid superblock, or one with unsupported features.
pub fn open(mut window: Window) -> Result<Option<Box<dyn FileSystem>>, Error> {
    let mut superblock = [0; SUPERBLOCK_BYTES];
    if window.read_at(0, &mut superblock).is_err() || superblock[..4] != SQUASHFS_MAGIC {
        return Ok(None);
    }
    let layout = Layout::of(&superblock, window.bytes())?;
    let codec = Codec::of(u16_at(&superblock, 20))?;
    Ok(Some(Box::new(Squash { layout, blocks: RefCell::new(Blocks::new(window, codec)) })))
}

fn damaged(why: impl Display) -> Error {
    Error::local(format!("its squashfs is damaged: {why}"))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Positions of the tables, checked against the size of the image.
struct Layout {
    block_bytes: usize,
    fragments: u32,
    root: u64,
    inode_table: u64,
    directory_table: u64,
    fragment_table: u64,
}

impl Layout {
    fn of(superblock: &[u8; SUPERBLOCK_BYTES], window_bytes: u64) -> Result<Self, Error> {
        let version = (u16_at(superblock, 28), u16_at(superblock, 30));
        if version != (4, 0) {
            return Err(Error::local(format!("its squashfs is of version {}.{}, not 4.0", version.0, version.1)));
        }
        let (block_bytes, used) = (u32_at(superblock, 12), squashfs_bytes(superblock));
        let fits = (BLOCK_MIN_BYTES..=BLOCK_MAX_BYTES as u32).contains(&block_bytes);
        if !fits || !block_bytes.is_power_of_two() || block_bytes.ilog2() != u32::from(u16_at(superblock, 22)) {
            return Err(damaged(format_args!("no block has {block_bytes} bytes")));
        }
        check_room(window_bytes, Some(used))?;
        let layout = Self {
            block_bytes: block_bytes as usize,
            fragments: u32_at(superblock, 16),
            root: u64_at(superblock, 32),
            inode_table: u64_at(superblock, 64),
            directory_table: u64_at(superblock, 72),
            fragment_table: u64_at(superblock, 80),
        };
        let tables = [layout.inode_table, layout.directory_table];
        let has_fragments = layout.fragments > 0;
        if tables.iter().any(|table| *table >= used) || (has_fragments && layout.fragment_table >= used) {
            return Err(damaged("its tables lie behind its end"));
        }
        Ok(layout)
    }
}

struct Squash {
    layout: Layout,
    blocks: RefCell<Blocks>,
}

impl Squash {
    /// The inode of a reference: block offset in the table in the upper bits, byte offset in the block in the lower 16.
    fn inode(&self, blocks: &mut Blocks, reference: u64) -> Result<Inode, Error> {
        let block = self.layout.inode_table + (reference >> 16 & u64::from(u32::MAX));
        Inode::read(&mut Text::open(blocks, block, (reference & 0xffff) as usize)?)
    }

    /// Calls `each` with each entry's name and inode reference until it returns true.
    fn entries(
        &self,
        blocks: &mut Blocks,
        directory: &Directory,
        mut each: impl FnMut(&[u8], u64) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mut left = i64::from(directory.bytes);
        if left == 0 {
            return Ok(());
        }
        let mut text = Text::open(blocks, self.layout.directory_table + directory.block, directory.offset)?;
        while left > 0 {
            let (last, block) = (text.u32()?, u64::from(text.u32()?));
            text.skip::<4>()?;
            if last >= ENTRIES_MAX {
                return Err(damaged(format_args!("{last} names behind one header of a directory")));
            }
            left -= 12;
            for _ in 0..=last {
                let offset = u64::from(text.u16()?);
                text.skip::<4>()?;
                let bytes = usize::from(text.u16()?) + 1;
                if bytes > NAME_MAX_BYTES {
                    return Err(damaged(format_args!("a name of {bytes} bytes")));
                }
                let name = &mut [0; NAME_MAX_BYTES][..bytes];
                text.read(name)?;
                left -= 8 + bytes as i64;
                if each(name, block << 16 | offset)? {
                    return Ok(());
                }
            }
        }
        match left {
            0 => Ok(()),
            _ => Err(damaged("a directory whose entries are longer than it is")),
        }
    }

    fn find(&self, path: &str) -> Result<Option<Inode>, Error> {
        let blocks = &mut *self.blocks.borrow_mut();
        let mut inode = self.inode(blocks, self.layout.root)?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let Inode::Directory(directory) = &inode else { return Ok(None) };
            let mut found = None;
            self.entries(blocks, directory, |name, reference| {
                found = (name == part.as_bytes()).then_some(reference);
                Ok(found.is_some())
            })?;
            let Some(reference) = found else { return Ok(None) };
            inode = self.inode(blocks, reference)?;
        }
        Ok(Some(inode))
    }

    /// The end of a file, from a fragment block.
    fn end(&self, blocks: &mut Blocks, (fragment, offset): (u32, usize), bytes: usize) -> Result<Vec<u8>, Error> {
        if fragment >= self.layout.fragments {
            return Err(damaged(format_args!("there is no fragment {fragment}")));
        }
        let (index, inside) =
            (u64::from(fragment) / FRAGMENTS_PER_BLOCK, (u64::from(fragment) % FRAGMENTS_PER_BLOCK) as usize);
        let block = blocks.number_at(self.layout.fragment_table + 8 * index)?;
        let mut text = Text::open(blocks, block, inside * FRAGMENT_BYTES)?;
        let (at, length) = (text.u64()?, text.u32()?);
        let block = blocks.fragment(at, length, self.layout.block_bytes)?;
        let end = offset.checked_add(bytes).and_then(|end| block.get(offset..end));
        Ok(end.ok_or_else(|| damaged(format_args!("fragment {fragment} is shorter than its files")))?.to_vec())
    }

    fn contents(&self, blocks: &mut Blocks, file: &File) -> Result<Vec<u8>, Error> {
        let block_bytes = self.layout.block_bytes;
        let mut contents = Vec::new();
        let (mut lengths, mut at, mut left) = (file.lengths, file.start, file.bytes);
        while left > 0 {
            if let Some(place) = file.fragment.filter(|_| left < block_bytes as u64) {
                contents.extend(self.end(blocks, place, left as usize)?);
                break;
            }
            let mut text = Text::open(blocks, lengths.0, lengths.1)?;
            let length = text.u32()?;
            lengths = text.place();
            let bytes = left.min(block_bytes as u64) as usize;
            contents.extend(blocks.data(at, length, bytes, block_bytes)?);
            left -= bytes as u64;
            at = at.checked_add(stored_bytes(length) as u64).ok_or_else(|| damaged("no disk is that large"))?;
        }
        Ok(contents)
    }
}

impl FileSystem for Squash {
    fn file_system(&self) -> &'static str {
        "squashfs"
    }

    fn look(&self, path: &str) -> Result<Option<Kind>, Error> {
        Ok(self.find(path)?.map(|inode| inode.kind()))
    }

    fn read_link(&self, path: &str) -> Result<String, Error> {
        match self.find(path)? {
            Some(Inode::Link(target)) => {
                String::from_utf8(target).map_err(|_| Error::local("a symbolic link that is not UTF-8"))
            }
            _ => Err(Error::local("no symbolic link")),
        }
    }

    fn list(&self, path: &str, max: usize) -> Result<Vec<String>, Error> {
        let Some(Inode::Directory(directory)) = self.find(path)? else { return Err(Error::local("no directory")) };
        let mut names = Vec::new();
        let mut count = 0;
        self.entries(&mut self.blocks.borrow_mut(), &directory, |name, _| {
            count += 1;
            names.extend(std::str::from_utf8(name).map(str::to_owned));
            match count > max {
                true => Err(Error::local(format!("more than {max} names in one directory"))),
                false => Ok(false),
            }
        })?;
        Ok(names)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        let Some(Inode::File(file)) = self.find(path)? else { return Err(Error::local("no file")) };
        self.contents(&mut self.blocks.borrow_mut(), &file)
    }
}
