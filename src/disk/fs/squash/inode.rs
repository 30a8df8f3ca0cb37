//! An inode of a squashfs: its type, and where its contents are.

use super::super::file_system::Kind;
use super::blocks::Text;
use super::damaged;
use crate::error::Error;

/// Maximum target of a symbolic link, in bytes: more than Linux follows.
const TARGET_MAX_BYTES: u32 = 65_536;
/// The size of a directory includes this many bytes for `.` and `..` that are not stored.
const DOTS_BYTES: u32 = 3;
/// Fragment number of a file without a fragment.
const NO_FRAGMENT: u32 = u32::MAX;

/// An inode by its type.
pub enum Inode {
    /// A directory.
    Directory(Directory),
    /// A regular file.
    File(File),
    /// A symbolic link with its target.
    Link(Vec<u8>),
    /// A device, pipe or socket.
    Other,
}

/// Position of a directory's entries: block offset in the directory table, and byte offset in that block.
pub struct Directory {
    /// Block offset in the directory table, in bytes.
    pub block: u64,
    /// Byte offset in the block.
    pub offset: usize,
    /// Size of the entries in bytes.
    pub bytes: u32,
}

/// Position of a file's contents.
pub struct File {
    /// Size in bytes.
    pub bytes: u64,
    /// Byte offset of the first block in the image.
    pub start: u64,
    /// Fragment number of the file's end, and the byte offset in it.
    pub fragment: Option<(u32, usize)>,
    /// Metadata position of the block lengths.
    pub lengths: (u64, usize),
}

impl Inode {
    /// Reads an inode.
    ///
    /// # Errors
    /// Metadata that cannot be read, or are not an inode.
    pub fn read(text: &mut Text<'_>) -> Result<Self, Error> {
        let kind = text.u16()?;
        // Mode, owner, time and inode number.
        text.skip::<14>()?;
        match kind {
            1 => directory(text),
            8 => large_directory(text),
            2 => file(text),
            9 => large_file(text),
            3 | 10 => link(text),
            4..=7 | 11..=14 => Ok(Self::Other),
            other => Err(damaged(format_args!("an inode of kind {other}"))),
        }
    }

    /// The kind of file.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Directory(directory) => Kind::Directory(directory.bytes.into()),
            Self::File(file) => Kind::File(file.bytes),
            Self::Link(target) => Kind::Link(target.len() as u64),
            Self::Other => Kind::Other,
        }
    }
}

fn directory(text: &mut Text<'_>) -> Result<Inode, Error> {
    let block = text.u32()?.into();
    text.skip::<4>()?;
    let bytes = u32::from(text.u16()?).saturating_sub(DOTS_BYTES);
    let offset = text.u16()?.into();
    Ok(Inode::Directory(Directory { block, offset, bytes }))
}

fn large_directory(text: &mut Text<'_>) -> Result<Inode, Error> {
    text.skip::<4>()?;
    let bytes = text.u32()?.saturating_sub(DOTS_BYTES);
    let block = text.u32()?.into();
    text.skip::<6>()?;
    let offset = text.u16()?.into();
    Ok(Inode::Directory(Directory { block, offset, bytes }))
}

fn file(text: &mut Text<'_>) -> Result<Inode, Error> {
    let (start, fragment, offset) = (text.u32()?.into(), text.u32()?, text.u32()?);
    let bytes = text.u32()?.into();
    Ok(Inode::File(File { bytes, start, fragment: end(fragment, offset), lengths: text.place() }))
}

fn large_file(text: &mut Text<'_>) -> Result<Inode, Error> {
    let (start, bytes) = (text.u64()?, text.u64()?);
    text.skip::<12>()?;
    let (fragment, offset) = (text.u32()?, text.u32()?);
    text.skip::<4>()?;
    Ok(Inode::File(File { bytes, start, fragment: end(fragment, offset), lengths: text.place() }))
}

fn end(fragment: u32, offset: u32) -> Option<(u32, usize)> {
    (fragment != NO_FRAGMENT).then_some((fragment, offset as usize))
}

fn link(text: &mut Text<'_>) -> Result<Inode, Error> {
    text.skip::<4>()?;
    let bytes = text.u32()?;
    if bytes > TARGET_MAX_BYTES {
        return Err(damaged(format_args!("a symbolic link of {bytes} bytes")));
    }
    let mut target = vec![0; bytes as usize];
    text.read(&mut target)?;
    Ok(Inode::Link(target))
}
