//! Trusted comments: what a signature says besides the bytes that it is of. Each kind of file has its own, so that no file
//! passes for another.

use super::digest::Sha256;
use super::layout::RepoPath;
use super::name::{Name, Version};
use super::time::Timestamp;

/// That of a head.
pub fn head(image: &Name, created: Timestamp) -> String {
    format!("hfl head {image} {created}")
}

/// That of an index; `digest` is that of its file.
pub fn index(image: &Name, version: Version, digest: &Sha256) -> String {
    format!("hfl index {image} {version} {digest}")
}

/// That of a further file that a head names.
pub fn file(path: &RepoPath) -> String {
    match path.as_str().strip_prefix("client/") {
        Some(name) => format!("hfl client {name}"),
        None => format!("hfl file {path}"),
    }
}

/// That of the record of a version that was retired.
pub fn retirement(image: &Name, version: Version, marked: Timestamp) -> String {
    format!("hfl retired {image} {version} {marked}")
}
