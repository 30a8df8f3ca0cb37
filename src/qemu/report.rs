//! What came of a boot, in figures.

use serde::Serialize;

use super::machine::Accelerator;

/// A boot, and how it ended.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The image.
    pub image: String,
    /// The version.
    pub version: u32,
    /// The machine, as `uname -m` calls it.
    pub machine: &'static str,
    /// What ran its code.
    pub accelerator: Accelerator,
    /// Whether the marker was seen.
    pub reached: bool,
    /// The marker.
    pub marker: String,
    /// Why it was not seen.
    pub why: Option<String>,
    /// Seconds from the start of QEMU to the marker, or to the end.
    pub seconds: f64,
    /// Seconds to the image's own init.
    pub root_seconds: Option<f64>,
    /// What was fetched of the mirror until then.
    pub fetched: Fetched,
    /// Bytes of the kernel, which QEMU loaded.
    pub kernel_bytes: u64,
    /// Bytes of the miniroot, which QEMU loaded.
    pub miniroot_bytes: u64,
    /// Blocks in the profile that was recorded.
    pub profile_blocks: Option<u64>,
    /// The console's last lines.
    pub console: Vec<String>,
}

/// What a machine fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Fetched {
    /// Requests.
    pub requests: u64,
    /// Bytes that were sent for them.
    pub bytes: u64,
    /// Those of them that were for blocks.
    pub blocks: u64,
    /// Bytes of these.
    pub block_bytes: u64,
    /// Requests for what no mirror has.
    pub missing: u64,
}
