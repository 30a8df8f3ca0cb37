//! All files of a file system, in the order of their paths.

use std::collections::HashSet;
use std::ops::Range;

use super::Ext;
use super::directory::Entry;
use super::inode::{Inode, ROOT};
use crate::error::Error;

/// Directories within each other.
const DEPTH_MAX: usize = 256;
/// What the names of the directories on the way may count for, in bytes.
const NAMES_MAX_BYTES: usize = 16 << 20;

/// A directory on the way: its names that are still to be visited, the next one last.
struct Level {
    names: Vec<Entry>,
    bytes: usize,
}

impl Level {
    /// The names in a directory, which take some of the room.
    fn of(directory: &Inode, ext: &mut Ext<'_>, room: &mut usize) -> Result<Self, Error> {
        let mut names = ext.names(directory, *room)?;
        names.reverse();
        let bytes = names.iter().map(Entry::bytes).sum();
        *room -= bytes;
        Ok(Self { names, bytes })
    }
}

/// Passes the blocks of each regular file. A file with several names is passed at the first of them.
///
/// # Errors
/// A failed read; those of `file`.
pub fn files(ext: &mut Ext<'_>, file: &mut dyn FnMut(Vec<Range<u64>>) -> Result<(), Error>) -> Result<(), Error> {
    let Some(root) = ext.inode(ROOT)?.filter(|inode| inode.is_directory) else { return Ok(()) };
    let (mut seen, mut room) = (HashSet::from([ROOT]), NAMES_MAX_BYTES);
    let mut way = vec![Level::of(&root, ext, &mut room)?];
    while let Some(here) = way.last_mut() {
        let Some(entry) = here.names.pop() else {
            room += here.bytes;
            way.pop();
            continue;
        };
        let Some(inode) = ext.inode(entry.inode)?.filter(|_| seen.insert(entry.inode)) else { continue };
        if !inode.is_directory {
            file(ext.blocks_of(&inode)?)?;
        } else if way.len() < DEPTH_MAX {
            way.push(Level::of(&inode, ext, &mut room)?);
        }
    }
    Ok(())
}
