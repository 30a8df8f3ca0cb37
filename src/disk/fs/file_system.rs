//! A file system that is read out of an image: a few small questions, and nothing else.
//!
//! Every path is absolute and none of its directories is a symbolic link: whoever asks has followed the links before, so
//! that no file system has to do it in a way of its own.

use crate::error::Error;

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory whose own data has so many bytes.
    Directory(u64),
    /// A regular file of so many bytes.
    File(u64),
    /// A symbolic link whose target has so many bytes.
    Link(u64),
    /// A device, a pipe, a socket.
    Other,
}

/// A file system.
pub trait FileSystem {
    /// Its kind, as the kernel's module for it is called.
    fn file_system(&self) -> &'static str;

    /// What lies at `path`, `None` where nothing does.
    ///
    /// # Errors
    /// A file system that cannot be read there.
    fn look(&self, path: &str) -> Result<Option<Kind>, Error>;

    /// Where the symbolic link at `path` points to.
    ///
    /// # Errors
    /// A file system that cannot be read there, or a target that is not UTF-8.
    fn read_link(&self, path: &str) -> Result<String, Error>;

    /// The names in the directory at `path`, at most `max` of them; those that are not UTF-8 are left out.
    ///
    /// # Errors
    /// A file system that cannot be read there, or more names than that.
    fn list(&self, path: &str, max: usize) -> Result<Vec<String>, Error>;

    /// The bytes of the file at `path`; [`Self::look`] has said how many there are.
    ///
    /// # Errors
    /// A file system that cannot be read there.
    fn read(&self, path: &str) -> Result<Vec<u8>, Error>;
}
