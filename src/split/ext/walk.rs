//! All files of a file system, in the order of their paths.

use std::collections::HashSet;
use std::ops::Range;

use super::Ext;
use super::directory::Entry;
use super::inode::ROOT;
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

/// Passes the blocks of each regular file. A file with several names is passed at the first of them.
///
/// # Errors
/// A failed read; those of `file`.
pub fn files(ext: &mut Ext<'_>, file: &mut dyn FnMut(Vec<Range<u64>>) -> Result<(), Error>) -> Result<(), Error> {
    let Some(root) = ext.inode(ROOT)?.filter(|inode| inode.is_directory) else { return Ok(()) };
    let mut seen = HashSet::from([ROOT]);
    let mut room = NAMES_MAX_BYTES;
    let level = |names: Vec<Entry>| Level { bytes: names.iter().map(Entry::bytes).sum(), names };
    let mut way = vec![level(ext.names(&root, room)?)];
    room -= way[0].bytes;
    way[0].names.reverse();
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
            let mut below = level(ext.names(&inode, room)?);
            room -= below.bytes;
            below.names.reverse();
            way.push(below);
        }
    }
    Ok(())
}
