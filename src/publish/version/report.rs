//! What an operation did, for a person and for a program.

use std::time::Instant;

use serde::Serialize;

use super::plan::{Outcome, Plan};
use crate::format::delta::Tally;
use crate::format::head::Head;
use crate::publish::artifact::boot_menu;
use crate::publish::object::Files;
use crate::publish::pipeline::upload::Sent;
use crate::publish::repository::mirror::OpenMirror;

/// The outcome of a publish.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The image's name.
    pub image: String,
    /// The version that is the newest now.
    pub version: u32,
    /// The version that was the newest before, if any.
    pub previous: Option<u32>,
    /// `published`, `no change` or `dry run`.
    pub outcome: Outcome,
    /// Bytes of the image.
    pub size: u64,
    /// The rule by which it was cut.
    pub split: String,
    /// Blocks that the repository did not have.
    pub new: Count,
    /// Blocks that it had.
    pub reused: Count,
    /// Bytes of the image that lie in holes.
    pub hole_bytes: u64,
    /// Bytes of the image that repeat other bytes of it.
    pub repeated_bytes: u64,
    /// Bytes of the index file.
    pub index_bytes: u64,
    /// Blocks of the profile that the newest version was shipped with by this run, if there is one.
    pub profile_blocks: Option<u64>,
    /// Seconds from start to end.
    pub seconds: f64,
    /// Bytes of the image per second.
    pub bytes_per_second: f64,
    /// The public key, where the image is signed.
    pub public_key: Option<String>,
    /// Where a key was kept that was made just now.
    pub new_key_file: Option<String>,
    /// What the newest version is booted with, if anything.
    pub boot: Option<BootReport>,
    /// Each mirror.
    pub mirrors: Vec<MirrorReport>,
}

/// What a version is booted with.
#[derive(Debug, Clone, Serialize)]
pub struct BootReport {
    /// Bytes of the kernel.
    pub kernel_bytes: u64,
    /// Bytes of the miniroot.
    pub miniroot_bytes: u64,
    /// What iPXE reads, on the first mirror that has a public URL; else its path below the base of each.
    pub ipxe: String,
}

/// Blocks and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of their files.
    pub zlib_bytes: u64,
}

impl From<Tally> for Count {
    fn from(tally: Tally) -> Self {
        Self { blocks: tally.blocks, bytes: tally.bytes, zlib_bytes: tally.zlib_bytes }
    }
}

/// What one mirror got.
#[derive(Debug, Clone, Serialize)]
pub struct MirrorReport {
    /// Its name.
    pub name: String,
    /// Where it is written to.
    pub write: String,
    /// Whether it has the newest version now.
    pub current: bool,
    /// Why it has not.
    pub why: Option<String>,
    /// What to do about that.
    pub hint: Option<String>,
    /// Blocks sent, or to be sent.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Other objects sent, or to be sent: indexes, signatures, heads, lists, pages, clients, profiles.
    pub files: u64,
    /// Their bytes.
    pub file_bytes: u64,
    /// Blocks that were there though no head vouched for them.
    pub found: u64,
    /// Blocks that were there and wrong.
    pub repaired: u64,
}

impl Report {
    /// The mirrors that were left behind.
    pub fn behind(&self) -> impl Iterator<Item = &MirrorReport> {
        self.mirrors.iter().filter(|m| !m.current)
    }

    /// What `plan` does to the image; the mirrors are still to be reported.
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
            profile_blocks: plan.profile_blocks,
            seconds,
            bytes_per_second: cut.size as f64 / seconds,
            public_key: None,
            new_key_file: None,
            boot: BootReport::of(&plan.head),
            mirrors: Vec::new(),
        }
    }

    /// Takes the time once all is done.
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
    /// What became of a mirror that was sent so much.
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
