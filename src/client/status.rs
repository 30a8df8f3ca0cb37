//! A snapshot of a mount's counters and of the state of its mirrors: as JSON, and as Prometheus text.
//!
//! It uses only numbers that are counted anyway; taking it never waits.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::newer::Newer;
use super::prefetch::profile::ProfileCounts;
use super::source::deltas::DeltaCounts;
use super::source::disk_cache::DiskStore;
use super::source::memory_cache::MemoryCache;
use super::source::mirrors::{MirrorHealth, Mode, State};
use super::source::{Network, ReadStack};
use crate::error::SCHEMA;
use crate::format::digest::Sha256;
use crate::format::name::{Name, Version};
use crate::format::time::Timestamp;
use crate::repo::Opened;

/// Counters of the reads of a mount.
#[derive(Debug, Default)]
pub struct Reads {
    /// Number of reads requested by the kernel.
    pub asked: AtomicU64,
    /// Bytes of answered reads.
    pub bytes: AtomicU64,
    /// Reads waiting for a block.
    pub waiting: AtomicU64,
    /// Number of failed reads.
    pub failed: AtomicU64,
}

/// Counts a read as waiting until dropped.
#[cfg(feature = "mount")]
pub(super) struct Waiting(pub(super) Arc<Reads>);

#[cfg(feature = "mount")]
impl Waiting {
    pub(super) fn new(reads: &Arc<Reads>) -> Self {
        reads.waiting.fetch_add(1, Relaxed);
        Self(Arc::clone(reads))
    }
}

#[cfg(feature = "mount")]
impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// The sources of a status.
#[derive(Debug)]
pub struct Status {
    /// Image name.
    pub image: Name,
    /// Image version.
    pub version: Version,
    /// SHA-256 of the index file, which identifies the content exactly.
    pub index: Sha256,
    /// When the version was published.
    pub created: Timestamp,
    /// Size of the image in bytes.
    pub size: u64,
    /// `hard` or `soft`.
    pub mode: &'static str,
    /// When the image was mounted.
    pub since: Instant,
    /// Counters of reads.
    pub reads: Arc<Reads>,
    /// The memory cache.
    pub cache: Arc<MemoryCache>,
    /// The disk cache, if any.
    pub disk: Option<Arc<DiskStore>>,
    /// The mirrors and their ranking.
    pub network: Arc<Network>,
    /// The same as a source of deltas.
    pub delta_network: Option<Arc<Network>>,
    /// Whether there is a newer version.
    pub newer: Newer,
    /// Counters of deltas.
    pub deltas: Arc<DeltaCounts>,
    /// Progress of the profile prefetch.
    pub ahead: Arc<ProfileCounts>,
}

/// The state of one mirror.
struct Line {
    rank: usize,
    name: Arc<str>,
    state: &'static str,
    standing: MirrorHealth,
}

fn word(state: State) -> &'static str {
    match state {
        State::Good => "good",
        State::Unknown => "unknown",
        State::Behind => "behind",
        State::Quarantined => "quarantined",
    }
}

impl Status {
    /// The status of an image that is read from now on.
    pub fn new(opened: &Opened, stack: &ReadStack, disk: Option<Arc<DiskStore>>, mode: Mode) -> Self {
        Self {
            image: opened.head.image.clone(),
            version: opened.row.version,
            index: opened.row.index_sha256,
            created: opened.row.created,
            size: opened.row.size,
            mode: if mode == Mode::Hard { "hard" } else { "soft" },
            since: Instant::now(),
            reads: Arc::default(),
            cache: Arc::clone(&stack.cache),
            disk,
            network: Arc::clone(&stack.network),
            delta_network: stack.delta_network.clone(),
            newer: Newer::default(),
            deltas: Arc::clone(&stack.delta_counts),
            ahead: Arc::default(),
        }
    }

    /// Size of the blocks and deltas fetched over the network, in bytes.
    pub fn fetched_bytes(&self) -> u64 {
        let networks = std::iter::once(&self.network).chain(&self.delta_network);
        networks.flat_map(|network| network.ranking().health()).map(|standing| standing.bytes).sum()
    }

    /// The mirrors, best first; what they delivered includes deltas.
    fn mirrors(&self, now: Instant) -> Vec<Line> {
        let ranking = self.network.ranking();
        let mut health = ranking.health();
        let deltas = self.delta_network.iter().flat_map(|network| network.ranking().health());
        for (standing, of_deltas) in health.iter_mut().zip(deltas) {
            standing.blocks += of_deltas.blocks;
            standing.bytes += of_deltas.bytes;
            standing.in_flight += of_deltas.in_flight;
        }
        let line = |(rank, at): (usize, usize)| {
            let standing = health[at].clone();
            Line { rank: rank + 1, name: Arc::clone(&ranking.names()[at]), state: word(standing.state(now)), standing }
        };
        ranking.ranking(now).into_iter().enumerate().map(line).collect()
    }

    /// The status as a JSON object; the names state the units of times.
    pub fn to_json(&self) -> Value {
        let now = Instant::now();
        let mirrors = self.mirrors(now);
        let sum = |count: fn(&MirrorHealth) -> u64| mirrors.iter().map(|m| count(&m.standing)).sum::<u64>();
        let age_s = Timestamp::from_system(SystemTime::now()).unix().saturating_sub(self.created.unix());
        let (disk_blocks, disk_bytes, healed) = self.disk.as_ref().map_or((0, 0, 0), |disk| disk.counts());
        let (ram_blocks, ram_bytes_held) = self.cache.counts();
        let newer = self.newer.get();
        json!({
            "schema": SCHEMA,
            "image": self.image.to_string(),
            "version": self.version.number(),
            "index": self.index.to_string(),
            "newer_version": newer.map(|newer| newer.version.number()),
            "newer_download_bytes": newer.map(|newer| newer.download_bytes),
            "newer_download_bytes_with_deltas": newer.and_then(|newer| newer.download_bytes_with_deltas),
            "created": self.created.to_string(),
            "age_s": age_s,
            "size": self.size,
            "mode": self.mode,
            "mounted_s": self.since.elapsed().as_secs(),
            "reads": self.reads.asked.load(Relaxed),
            "read_bytes": self.reads.bytes.load(Relaxed),
            "reads_waiting": self.reads.waiting.load(Relaxed),
            "reads_failed": self.reads.failed.load(Relaxed),
            "fetched_blocks": sum(|m| m.blocks),
            "fetched_bytes": self.fetched_bytes(),
            "delta_blocks": self.deltas.blocks.load(Relaxed),
            "delta_bytes": self.deltas.bytes.load(Relaxed),
            "delta_saved_bytes": self.deltas.saved_bytes.load(Relaxed),
            "disk_blocks": disk_blocks,
            "disk_bytes": disk_bytes,
            "disk_healed": healed,
            "ram_blocks": ram_blocks,
            "ram_bytes_held": ram_bytes_held,
            "in_flight": sum(|m| m.in_flight.into()),
            "hedged": self.network.hedged(),
            "profile_blocks": self.ahead.profile.load(Relaxed),
            "profile_left": self.ahead.left.load(Relaxed),
            "profile_fetched_blocks": self.ahead.blocks.load(Relaxed),
            "profile_fetched_bytes": self.ahead.bytes.load(Relaxed),
            "mirrors": mirrors.iter().map(|mirror| mirror.to_json(now)).collect::<Vec<_>>(),
        })
    }

    /// The status in the Prometheus text format, version 0.0.4.
    pub fn to_prometheus(&self) -> String {
        let object = self.to_json();
        let mut text = String::new();
        for (name, kind, help) in METRICS {
            let value = object[*name].as_u64().unwrap_or_default();
            let _ = writeln!(text, "# HELP hfl_{name} {help}\n# TYPE hfl_{name} {kind}");
            let _ = writeln!(text, "hfl_{name}{{image=\"{}\"}} {value}", self.image);
        }
        for (name, kind, help) in MIRROR_METRICS {
            let _ = writeln!(text, "# HELP hfl_mirror_{name} {help}\n# TYPE hfl_mirror_{name} {kind}");
            for mirror in object["mirrors"].as_array().into_iter().flatten() {
                let label = mirror["url"].as_str().unwrap_or_default().replace(['"', '\\', '\n'], "_");
                if let Some(value) = mirror[*name].as_f64() {
                    let _ = writeln!(text, "hfl_mirror_{name}{{image=\"{}\",mirror=\"{label}\"}} {value}", self.image);
                }
            }
        }
        text
    }
}

impl Line {
    fn to_json(&self, now: Instant) -> Value {
        let Self { rank, name, state, standing } = self;
        let ms = |time: Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
        let left = standing.until().map(|until| until.saturating_duration_since(now).as_secs());
        json!({
            "url": **name,
            "rank": rank,
            "state": state,
            "up": u8::from(*state != "quarantined"),
            "usual_ms": standing.usual().map(ms),
            "bytes_per_s": standing.bytes_per_s().map(f64::round),
            "blocks": standing.blocks,
            "bytes": standing.bytes,
            "failures": standing.failures,
            "overtaken": standing.overtaken,
            "in_flight": standing.in_flight,
            "quarantine_left_s": left,
            "why": standing.why,
        })
    }
}

/// The metrics of a mount: name, kind and meaning.
const METRICS: &[(&str, &str, &str)] = &[
    ("version", "gauge", "Version of the image that is mounted."),
    ("newer_version", "gauge", "The newest version, if it is newer than that; else 0."),
    ("age_s", "gauge", "Seconds since that version was published."),
    ("size", "gauge", "Bytes of the image."),
    ("mounted_s", "counter", "Seconds since the image was mounted."),
    ("reads", "counter", "Reads that the kernel asked for."),
    ("read_bytes", "counter", "Bytes that reads were answered with."),
    ("reads_waiting", "gauge", "Reads that wait for a block."),
    ("reads_failed", "counter", "Reads that failed."),
    ("fetched_blocks", "counter", "Blocks fetched from mirrors."),
    ("fetched_bytes", "counter", "Bytes of their files or deltas."),
    ("delta_blocks", "counter", "Blocks made from deltas."),
    ("delta_bytes", "counter", "Bytes of these deltas."),
    ("delta_saved_bytes", "counter", "Bytes by which the whole blocks are larger."),
    ("disk_blocks", "counter", "Blocks taken from the disk cache."),
    ("disk_bytes", "counter", "Bytes of these, inflated."),
    ("disk_healed", "counter", "Bad files of the disk cache that were dropped."),
    ("ram_blocks", "counter", "Times that a block was in the RAM cache."),
    ("ram_bytes_held", "gauge", "Bytes of decoded blocks in RAM."),
    ("in_flight", "gauge", "Requests to mirrors under way."),
    ("hedged", "counter", "Second requests because the first was slow."),
    ("profile_blocks", "gauge", "Blocks of the profile that is fetched ahead."),
    ("profile_left", "gauge", "Those that are still to be fetched."),
    ("profile_fetched_blocks", "counter", "Blocks fetched ahead for a profile."),
    ("profile_fetched_bytes", "counter", "Bytes of their files."),
];

/// The metrics of each mirror.
const MIRROR_METRICS: &[(&str, &str, &str)] = &[
    ("rank", "gauge", "Place in the ranking; 1 is asked first."),
    ("up", "gauge", "0 while the mirror is left alone because it failed."),
    ("usual_ms", "gauge", "Milliseconds that it usually takes to a checked block."),
    ("bytes_per_s", "gauge", "Bytes a second while it answers."),
    ("blocks", "counter", "Blocks that it gave."),
    ("bytes", "counter", "Bytes of their files."),
    ("failures", "counter", "Requests that failed."),
    ("overtaken", "counter", "Requests that another mirror was faster with."),
    ("in_flight", "gauge", "Requests under way."),
];
