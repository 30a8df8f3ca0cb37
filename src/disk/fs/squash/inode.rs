//! An inode of a squashfs: what it is, and where its contents lie.

use super::super::file_system::Kind;
use super::blocks::Text;
use super::damaged;
use crate::error::Error;

/// The longest target of a symbolic link, in bytes: more than Linux follows.
const TARGET_MAX_BYTES: u32 = 65_536;
/// A directory has so many bytes more than are stored, for `.` and `..`.
const DOTS_BYTES: u32 = 3;
/// The fragment of a file that has none.
const NO_FRAGMENT: u32 = u32::MAX;

/// What an inode is.
pub enum Inode {
    /// A directory.
    Directory(Directory),
    /// A regular file.
    File(File),
    /// A symbolic link, and its target.
    Link(Vec<u8>),
    /// A device, a pipe, a socket.
    Other,
}

/// Where the entries of a directory stand: in the table of directories, bytes from its begin, and bytes in that block.
pub struct Directory {
    /// The block.
    pub block: u64,
    /// The byte in it.
    pub offset: usize,
    /// Bytes of the entries.
    pub bytes: u32,
}

/// Where the contents of a file lie.
pub struct File {
    /// Bytes of its contents.
    pub bytes: u64,
    /// The first block's byte in the image.
    pub start: u64,
    /// Which fragment its end is in, and from which byte on.
    pub fragment: Option<(u32, usize)>,
    /// Where the lengths of its blocks stand in the metadata.
    pub lengths: (u64, usize),
}

impl Inode {
    /// Reads one.
    ///
    /// # Errors
    /// Metadata that cannot be read, or are no inode.
    pub fn read(text: &mut Text<'_>) -> Result<Self, Error> {
        let kind = text.u16()?;
        // Its mode, owner and time, and its number.
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

    /// What that is to others.
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
