//! Trusted comments: text that a signature covers besides the file. Each kind of file has its own, so no file can be
//! passed off as another.

use super::digest::Sha256;
use super::layout::RepoPath;
use super::name::{Name, Version};
use super::time::Timestamp;

/// The trusted comment of a head.
pub fn head(image: &Name, created: Timestamp) -> String {
    format!("hfl head {image} {created}")
}

/// The trusted comment of an index; `digest` is the SHA-256 of its file.
pub fn index(image: &Name, version: Version, digest: &Sha256) -> String {
    format!("hfl index {image} {version} {digest}")
}

/// The trusted comment of another file listed in a head.
pub fn file(path: &RepoPath) -> String {
    match path.as_str().strip_prefix("client/") {
        Some(name) => format!("hfl client {name}"),
        None => format!("hfl file {path}"),
    }
}

/// The trusted comment of the record of a retired version.
pub fn retirement(image: &Name, version: Version, marked: Timestamp) -> String {
    format!("hfl retired {image} {version} {marked}")
}
