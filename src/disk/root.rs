//! The root file system of an image. Symbolic links are followed inside it, and all reads are bounded.

use super::fs::file_system::{FileSystem, Kind};
use crate::error::Error;

/// Maximum symbolic links in a path lookup, as in Linux.
const LINKS_MAX: usize = 40;
/// Maximum path length in bytes, as in Linux.
const PATH_MAX_BYTES: usize = 4096;
/// Maximum size of a directory that is read, in bytes of its own data.
const DIRECTORY_MAX_BYTES: u64 = 8 << 20;
/// Maximum number of names listed from one directory.
const NAMES_MAX: usize = 16_384;

/// A root file system with bounded reads.
pub struct Root {
    tree: Box<dyn FileSystem>,
    image: String,
}

impl Root {
    /// Reads from `tree`; `image` is its name in messages.
    pub fn new(tree: Box<dyn FileSystem>, image: String) -> Self {
        Self { tree, image }
    }

    /// Type of the file system, named like its kernel module.
    pub fn file_system(&self) -> &'static str {
        self.tree.file_system()
    }

    /// An error about a path in this image.
    pub fn error(&self, path: &str, why: impl std::fmt::Display) -> Error {
        Error::local(format!("{}: {path}: {why}", self.image))
    }

    /// An error about this image.
    pub fn error_whole(&self, why: impl std::fmt::Display) -> Error {
        Error::local(format!("{}: {why}", self.image))
    }

    /// Whether `path` is a directory.
    ///
    /// # Errors
    /// A file system that cannot be read there.
    pub fn is_directory(&self, path: &str) -> Result<bool, Error> {
        Ok(matches!(self.resolve(path)?, Some((_, Kind::Directory(_)))))
    }

    /// The sorted names in a directory; empty if there is no such directory.
    ///
    /// # Errors
    /// A file system that cannot be read there; too many names.
    pub fn list(&self, path: &str) -> Result<Vec<String>, Error> {
        let Some((place, Kind::Directory(_))) = self.resolve(path)? else { return Ok(Vec::new()) };
        let mut names = self.tree.list(&place, NAMES_MAX).map_err(|e| self.error(path, e))?;
        names.sort_unstable();
        Ok(names)
    }

    /// Contents of a file of at most `max_bytes`; `None` if there is no such file.
    ///
    /// # Errors
    /// A larger file; a file system that cannot be read there.
    pub fn read(&self, path: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some((place, Kind::File(bytes))) = self.resolve(path)? else { return Ok(None) };
        if bytes > max_bytes {
            return Err(self.error(path, format_args!("{bytes} bytes, at most {max_bytes} are read")));
        }
        self.tree.read(&place).map(Some).map_err(|e| self.error(path, e))
    }

    /// The path inside the image that `path` resolves to, all links followed, and what is there.
    ///
    /// # Errors
    /// Too many links; a path that grows too long; a file system that cannot be read.
    pub fn resolve(&self, path: &str) -> Result<Option<(String, Kind)>, Error> {
        let mut ahead: Vec<String> = parts(path);
        let mut done: Vec<String> = Vec::new();
        let mut kind = Kind::Directory(0);
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            if part == ".." {
                done.pop();
                kind = Kind::Directory(0);
                continue;
            }
            if !matches!(kind, Kind::Directory(_)) {
                return Ok(None);
            }
            let place = format!("{}/{part}", joined(&done));
            if place.len() > PATH_MAX_BYTES {
                return Err(self.error(path, "its symbolic links make a path that is too long"));
            }
            let Some(found) = self.tree.look(&place).map_err(|e| self.error(path, e))? else { return Ok(None) };
            match found {
                Kind::Link(bytes) => {
                    links += 1;
                    if links > LINKS_MAX || bytes > PATH_MAX_BYTES as u64 {
                        return Err(self.error(path, "too many symbolic links, or too long ones"));
                    }
                    let target = self.tree.read_link(&place).map_err(|e| self.error(path, e))?;
                    if target.starts_with('/') {
                        done.clear();
                    }
                    ahead.extend(parts(&target));
                    kind = Kind::Directory(0);
                }
                Kind::Directory(bytes) if bytes > DIRECTORY_MAX_BYTES => {
                    return Err(
                        self.error(&place, format_args!("a directory of {bytes} bytes, too large to look into"))
                    );
                }
                found => {
                    done.push(part);
                    kind = found;
                }
            }
        }
        let place = if done.is_empty() { "/".to_owned() } else { joined(&done) };
        Ok(Some((place, kind)))
    }
}

/// The components of a path, the last one first.
fn parts(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !matches!(*part, "" | ".")).rev().map(str::to_owned).collect()
}

fn joined(parts: &[String]) -> String {
    parts.iter().flat_map(|part| ["/", part]).collect()
}
