//! A file system read from an image: a minimal interface.
//!
//! Every path is absolute, and none of its directories is a symbolic link: the caller has resolved the links, so that
//! no file system needs its own link resolution.

use crate::error::Error;

/// Kind of file at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory, with the size of its own data in bytes.
    Directory(u64),
    /// A regular file, with its size in bytes.
    File(u64),
    /// A symbolic link, with the size of its target in bytes.
    Link(u64),
    /// A device, pipe or socket.
    Other,
}

/// A file system.
pub trait FileSystem {
    /// Type of the file system, named like its kernel module.
    fn file_system(&self) -> &'static str;

    /// The kind of file at `path`; `None` if there is none.
    ///
    /// # Errors
    /// A file system that cannot be read there.
    fn look(&self, path: &str) -> Result<Option<Kind>, Error>;

    /// Target of the symbolic link at `path`.
    ///
    /// # Errors
    /// A file system that cannot be read there; a target that is not UTF-8.
    fn read_link(&self, path: &str) -> Result<String, Error>;

    /// The names in the directory at `path`, at most `max` of them; those that are not UTF-8 are skipped.
    ///
    /// # Errors
    /// A file system that cannot be read there; more than `max` names.
    fn list(&self, path: &str, max: usize) -> Result<Vec<String>, Error>;

    /// Contents of the file at `path`, whose size [`Self::look`] has returned.
    ///
    /// # Errors
    /// A file system that cannot be read there.
    fn read(&self, path: &str) -> Result<Vec<u8>, Error>;
}
