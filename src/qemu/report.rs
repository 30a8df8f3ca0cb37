//! The report on a test boot.

use serde::Serialize;

use super::machine::Accelerator;

/// Result of a test boot.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Image name.
    pub image: String,
    /// Version number.
    pub version: u32,
    /// Architecture, as `uname -m` reports it.
    pub machine: &'static str,
    /// Accelerator used.
    pub accelerator: Accelerator,
    /// Whether the marker was seen.
    pub reached: bool,
    /// Marker text.
    pub marker: String,
    /// Why it was not seen.
    pub why: Option<String>,
    /// Seconds from the start of QEMU to the marker, or to the failure.
    pub seconds: f64,
    /// Seconds from the start of QEMU to the image's own init.
    pub root_seconds: Option<f64>,
    /// Requests to the mirror until then.
    pub fetched: Fetched,
    /// Size of the kernel in bytes; it is loaded by QEMU, not fetched.
    pub kernel_bytes: u64,
    /// Size of the miniroot in bytes; it is loaded by QEMU, not fetched.
    pub miniroot_bytes: u64,
    /// Number of blocks in the profile, if recorded.
    pub profile_blocks: Option<u64>,
    /// Last lines of the console.
    pub console: Vec<String>,
}

/// Statistics of the requests of a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Fetched {
    /// Number of requests.
    pub requests: u64,
    /// Bytes sent in response.
    pub bytes: u64,
    /// Block requests served.
    pub blocks: u64,
    /// Bytes sent for blocks.
    pub block_bytes: u64,
    /// Requests answered with an error.
    pub missing: u64,
}
