//! erofs, read by the crate `erofs-rs`.
//!
//! The crate reads only what is requested. Layouts in which a small read decompresses much data are refused: compressed
//! directories, links and inodes, which mkfs.erofs makes only on request. Each directory is read once. Source of the
//! fields: the kernel's documentation of EROFS, and its erofs_fs.h.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use erofs_rs::Error as CrateError;
use erofs_rs::r#async::EroFS;
use erofs_rs::backend::AsyncImage;
use erofs_rs::types::{Inode, Layout};
use futures_util::FutureExt as _;

use super::file_system::{FileSystem, Kind};
use crate::disk::superblock::{EROFS_MAGIC, SUPERBLOCK_AT};
use crate::disk::{Window, check_room};
use crate::error::Error;

/// Feature flag: inodes are stored in a compressed file.
const METABOX: u32 = 0x100;
/// Maximum size of a directory in bytes.
const DIRECTORY_MAX_BYTES: u64 = 8 << 20;
/// Maximum number of names in all directories read.
const NAMES_MAX: usize = 1 << 18;

/// Opens the file system at the start of this window; `None` if it is of another type.
///
/// # Errors
/// An invalid superblock, or one that asks for what cannot be read.
pub fn open(mut window: Window) -> Result<Option<Box<dyn FileSystem>>, Error> {
    let mut magic = [0; 4];
    if window.read_at(SUPERBLOCK_AT as u64, &mut magic).is_err() || magic != EROFS_MAGIC {
        return Ok(None);
    }
    let window_bytes = window.bytes();
    let file_system = now(EroFS::new(Reader(Mutex::new(window))))?;
    let superblock = file_system.super_block();
    let bytes = superblock.block_count().checked_mul(1 << superblock.blk_size_bits);
    check_room(window_bytes, bytes)?;
    if superblock.feature_incompat & METABOX != 0 {
        return Err(Error::local("its erofs has compressed inodes, which hfl does not read"));
    }
    Ok(Some(Box::new(Erofs { file_system, directories: RefCell::default() })))
}

fn wrong(error: &CrateError) -> Error {
    Error::local(format!("its erofs cannot be read: {error}"))
}

/// The result of a future that only waits for file reads, and so is ready at once.
fn now<T>(future: impl Future<Output = Result<T, CrateError>>) -> Result<T, Error> {
    let found = future.now_or_never().ok_or_else(|| Error::local("reading its erofs never ends"))?;
    found.map_err(|e| wrong(&e))
}

struct Reader(Mutex<Window>);

impl AsyncImage for Reader {
    async fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), CrateError> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        window.read_at(offset, buf).map_err(|e: io::Error| CrateError::Io(e))
    }
}

type Names = Rc<HashMap<String, Inode>>;

struct Erofs {
    file_system: EroFS<Reader>,
    /// Directories read so far, by path.
    directories: RefCell<HashMap<String, Names>>,
}

impl Erofs {
    fn find(&self, path: &str) -> Result<Option<Inode>, Error> {
        let mut inode = now(self.file_system.get_inode(self.file_system.super_block().root_inode_id()))?;
        let mut place = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if !inode.is_dir() {
                return Ok(None);
            }
            let Some(found) = self.names(&place, &inode)?.get(part).copied() else { return Ok(None) };
            inode = found;
            place = format!("{place}/{part}");
        }
        Ok(Some(inode))
    }

    /// Entries of the directory at `place`.
    fn names(&self, place: &str, directory: &Inode) -> Result<Names, Error> {
        if let Some(names) = self.directories.borrow().get(place) {
            return Ok(Rc::clone(names));
        }
        check_plain(directory)?;
        if directory.data_size() > DIRECTORY_MAX_BYTES {
            let why = format!("a directory of {} bytes, too large to look into", directory.data_size());
            return Err(Error::local(why));
        }
        let known: usize = self.directories.borrow().values().map(|names| names.len()).sum();
        let mut names = HashMap::new();
        let mut entries = now(self.file_system.read_dir(if place.is_empty() { "/" } else { place }))?;
        while let Some(entry) = now(async { entries.next_entry().await.transpose() })? {
            if let Ok(name) = std::str::from_utf8(entry.dir_entry.file_name()) {
                names.insert(name.to_owned(), entry.inode);
            }
            if known + names.len() > NAMES_MAX {
                return Err(Error::local(format!("more than {NAMES_MAX} names in its directories")));
            }
        }
        let names = Rc::new(names);
        self.directories.borrow_mut().insert(place.to_owned(), Rc::clone(&names));
        Ok(names)
    }
}

/// Refuses a compressed inode, as every access would decompress it again.
fn check_plain(inode: &Inode) -> Result<(), Error> {
    match inode.layout() {
        Some(Layout::CompressedFull | Layout::CompressedCompact) => {
            Err(Error::local("its erofs has compressed directories or links, which hfl does not read"))
        }
        _ => Ok(()),
    }
}

impl FileSystem for Erofs {
    fn file_system(&self) -> &'static str {
        "erofs"
    }

    fn look(&self, path: &str) -> Result<Option<Kind>, Error> {
        let Some(inode) = self.find(path)? else { return Ok(None) };
        let bytes = inode.data_size();
        Ok(Some(match (inode.is_dir(), inode.is_file(), inode.is_symlink()) {
            (true, ..) => Kind::Directory(bytes),
            (_, true, _) => Kind::File(bytes),
            (.., true) => Kind::Link(bytes),
            _ => Kind::Other,
        }))
    }

    fn read_link(&self, path: &str) -> Result<String, Error> {
        let Some(inode) = self.find(path)? else { return Err(Error::local("no symbolic link")) };
        check_plain(&inode)?;
        let target = now(self.file_system.read_link_inode(inode))?;
        String::from_utf8(target.into_vec()).map_err(|_| Error::local("a symbolic link that is not UTF-8"))
    }

    fn list(&self, path: &str, max: usize) -> Result<Vec<String>, Error> {
        let Some(inode) = self.find(path)? else { return Err(Error::local("no directory")) };
        let names = self.names(path.trim_end_matches('/'), &inode)?;
        match names.len() > max {
            true => Err(Error::local(format!("more than {max} names in one directory"))),
            false => Ok(names.keys().cloned().collect()),
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        let Some(inode) = self.find(path)? else { return Err(Error::local("no file")) };
        let mut file = self.file_system.open_inode_file(inode).map_err(|e| wrong(&e))?;
        let mut contents = vec![0; usize::try_from(inode.data_size()).map_err(|e| Error::local(e.to_string()))?];
        let mut done = 0;
        while done < contents.len() {
            match now(file.read(&mut contents[done..]))? {
                0 => return Err(Error::local(format!("only {done} of {} bytes could be read", contents.len()))),
                count => done += count,
            }
        }
        Ok(contents)
    }
}
