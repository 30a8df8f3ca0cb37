//! Response headers stored with each object.

use crate::format::layout::{Kind, RepoPath};

/// Immutable objects may be cached forever.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// Mutable objects must soon be revalidated.
const MUTABLE: &str = "public, max-age=30";

/// Settings from mirrors.toml.
#[derive(Debug)]
pub(super) struct Headers {
    pub(super) cache_control: Option<String>,
    pub(super) head_cache_control: Option<String>,
    pub(super) storage_class: Option<String>,
}

impl Headers {
    pub(super) fn cache_control(&self, path: &RepoPath) -> &str {
        let (chosen, default) = match path.is_immutable() {
            true => (&self.cache_control, IMMUTABLE),
            false => (&self.head_cache_control, MUTABLE),
        };
        chosen.as_deref().unwrap_or(default)
    }

    /// Only blocks may use a storage class with more expensive reads.
    pub(super) fn storage_class(&self, path: &RepoPath) -> Option<&str> {
        self.storage_class.as_deref().filter(|_| matches!(path.kind(), Kind::Block(_) | Kind::Delta(_)))
    }
}

/// The media type of an object, by its kind and file name extension.
pub(super) fn content_type(path: &RepoPath) -> &'static str {
    if matches!(path.kind(), Kind::Images | Kind::Head(_) | Kind::Index(..) | Kind::IndexSignature(..)) {
        return "text/plain; charset=utf-8";
    }
    match path.as_str().rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "atom")) => "application/atom+xml; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "minisig" | "profile" | "ipxe" | "conf" | "txt")) => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
