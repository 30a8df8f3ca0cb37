//! Which versions of an image are retired.

use serde::Serialize;

use crate::format::head::VersionRow;
use crate::format::name::Name;
use crate::publish::version::report::MirrorReport;

/// What retiring did to one image.
#[derive(Debug, Clone, Serialize)]
pub struct Retired {
    /// The image.
    pub image: String,
    /// The versions that stay, newest first.
    pub kept: Vec<u32>,
    /// The versions that were retired.
    pub retired: Vec<u32>,
    /// Why nothing was done, where nothing could be.
    pub skipped: Option<String>,
    /// What became of each mirror, where anything was to be done.
    pub mirrors: Vec<MirrorReport>,
}

/// What was retired of one image, and how it is reported.
pub(super) struct Choice {
    pub image: Name,
    pub rows: Vec<VersionRow>,
    pub report: Retired,
}
