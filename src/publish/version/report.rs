//! The report of an operation, for humans and programs.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use super::plan::{Outcome, Plan};
use crate::format::difference::Tally;
use crate::format::head::Head;
use crate::publish::artifact::boot_menu;
use crate::publish::deltas::UpdateReport;
use crate::publish::object::Files;
use crate::publish::pipeline::upload::Sent;
use crate::publish::repository::mirror::OpenMirror;

/// The outcome of a publish.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Image name.
    pub image: String,
    /// The newest version now.
    pub version: u32,
    /// The newest version before, if any.
    pub previous: Option<u32>,
    /// `published`, `no change` or `dry run`.
    pub outcome: Outcome,
    /// Image size in bytes.
    pub size: u64,
    /// The rule by which it was cut.
    pub split: String,
    /// Blocks that were new to the repository.
    pub new: Count,
    /// Blocks that the repository already had.
    pub reused: Count,
    /// Bytes of the image in holes.
    pub hole_bytes: u64,
    /// Bytes of the image that repeat other parts of it.
    pub repeated_bytes: u64,
    /// Size of the index file in bytes.
    pub index_bytes: u64,
    /// SHA-256 of the newest version's image, if it was published with one.
    pub image_sha256: Option<String>,
    /// What the deltas that this run made save.
    pub updates: Vec<UpdateReport>,
    /// Number of blocks in the profile that this run shipped with the newest version, if any.
    pub profile_blocks: Option<u64>,
    /// Duration in seconds.
    pub seconds: f64,
    /// Image bytes processed per second.
    pub bytes_per_second: f64,
    /// The public key, if the image is signed.
    pub public_key: Option<String>,
    /// Where a generated key is saved, until the first version signed with it is out.
    pub new_key_file: Option<String>,
    /// The boot files of the newest version, if any.
    pub boot: Option<BootReport>,
    /// The result for each mirror.
    pub mirrors: Vec<MirrorReport>,
}

/// The outcome of work on several images.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ImagesReport {
    /// The result for each image.
    pub images: Vec<Report>,
    /// Images that were skipped, and why.
    pub skipped: BTreeMap<String, String>,
}

/// The boot files of a version.
#[derive(Debug, Clone, Serialize)]
pub struct BootReport {
    /// Kernel size in bytes.
    pub kernel_bytes: u64,
    /// Miniroot size in bytes.
    pub miniroot_bytes: u64,
    /// The iPXE script: its URL on the first mirror with a public URL, else its path relative to each mirror's base.
    pub ipxe: String,
}

/// A number of blocks and their sizes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Number of blocks.
    pub blocks: u64,
    /// Uncompressed size in bytes.
    pub bytes: u64,
    /// Compressed size in bytes.
    pub zlib_bytes: u64,
}

impl From<Tally> for Count {
    fn from(tally: Tally) -> Self {
        Self { blocks: tally.blocks, bytes: tally.bytes, zlib_bytes: tally.zlib_bytes }
    }
}

/// The result for one mirror.
#[derive(Debug, Clone, Serialize)]
pub struct MirrorReport {
    /// Mirror name.
    pub name: String,
    /// Where the publisher writes it.
    pub write: String,
    /// Whether it has the newest version now.
    pub current: bool,
    /// Why it does not.
    pub why: Option<String>,
    /// Advice for that case.
    pub hint: Option<String>,
    /// Number of blocks sent, or to be sent.
    pub objects: u64,
    /// Compressed size of these blocks in bytes.
    pub bytes: u64,
    /// Number of other objects sent, or to be sent: indexes, signatures, heads, lists, pages, clients, profiles.
    pub files: u64,
    /// Size of these objects in bytes.
    pub file_bytes: u64,
    /// Number of blocks already present although no head vouched for them.
    pub found: u64,
    /// Number of blocks that were present but damaged, and were replaced.
    pub repaired: u64,
}

impl Report {
    /// The mirrors without the newest version.
    pub fn behind(&self) -> impl Iterator<Item = &MirrorReport> {
        self.mirrors.iter().filter(|m| !m.current)
    }

    /// The report for `plan`, still without the mirrors.
    pub fn of(plan: &Plan, previous: Option<u32>, started: Instant) -> Self {
        let cut = &plan.cut;
        let seconds = started.elapsed().as_secs_f64();
        Self {
            image: plan.head.image.to_string(),
            version: plan.head.newest().version.number(),
            previous,
            outcome: plan.outcome,
            size: cut.size,
            split: plan.rule.to_string(),
            new: cut.new.into(),
            reused: cut.known.into(),
            hole_bytes: cut.hole_bytes,
            repeated_bytes: cut.repeated_bytes,
            index_bytes: plan.index_bytes,
            image_sha256: plan.head.image_sha256(plan.head.newest().version).map(|sha256| sha256.to_string()),
            updates: plan.updates.clone(),
            profile_blocks: plan.profile_blocks,
            seconds,
            bytes_per_second: cut.size as f64 / seconds,
            public_key: None,
            new_key_file: None,
            boot: BootReport::of(&plan.head),
            mirrors: Vec::new(),
        }
    }

    /// Sets the final duration.
    pub fn finish(&mut self, started: Instant) {
        self.seconds = started.elapsed().as_secs_f64();
        self.bytes_per_second = self.size as f64 / self.seconds;
    }
}

impl BootReport {
    fn of(head: &Head) -> Option<Self> {
        let (kernel, miniroot) = boot_menu::named(head, head.newest())?;
        let base = head.mirrors.first().map_or("", |mirror| mirror.as_str());
        let ipxe = format!("{base}boot/{}/boot.ipxe", head.image);
        Some(Self { kernel_bytes: kernel.bytes, miniroot_bytes: miniroot.bytes, ipxe })
    }
}

impl MirrorReport {
    /// The result for a mirror that received this much.
    pub fn of(mirror: &OpenMirror, sent: Sent, files: Files) -> Self {
        Self {
            name: mirror.name().to_owned(),
            write: mirror.config.write.to_string(),
            current: mirror.is_up(),
            why: mirror.failed.as_ref().map(|f| f.why.clone()),
            hint: mirror.failed.as_ref().and_then(|f| f.advice.clone()),
            objects: sent.objects,
            bytes: sent.bytes,
            files: files.objects,
            file_bytes: files.bytes,
            found: sent.found,
            repaired: sent.repaired,
        }
    }
}
