//! Versions of an image chosen for retirement.

use serde::Serialize;

use crate::format::head::VersionRow;
use crate::format::name::Name;
use crate::publish::version::report::MirrorReport;

/// The result of retiring versions of one image.
#[derive(Debug, Clone, Serialize)]
pub struct Retired {
    /// Image name.
    pub image: String,
    /// Versions that stay, newest first.
    pub kept: Vec<u32>,
    /// Versions that were retired.
    pub retired: Vec<u32>,
    /// Why the image was skipped, if it was.
    pub skipped: Option<String>,
    /// The result for each mirror; empty if there was nothing to do.
    pub mirrors: Vec<MirrorReport>,
}

/// The versions to retire of one image, and their report.
pub(super) struct Choice {
    pub image: Name,
    pub rows: Vec<VersionRow>,
    pub report: Retired,
}
