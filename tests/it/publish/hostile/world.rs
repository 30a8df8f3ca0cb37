//! A scenario in a repository, and the contents of the honest mirrors after each step.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hfl::Error;
use hfl::config::Mirrors;
use hfl::format::block::{self, Codec, unwrapped};
use hfl::format::head::{SignedHead, Trust};
use hfl::format::layout::{Kind, RepoPath};
use hfl::format::name::Version;
use hfl::format::profile::{FirstRead, Profile};
use hfl::format::retirement::Retirement;
use hfl::format::time::Timestamp;
use hfl::progress::Watch;
use hfl::publish::{
    self, BootOptions, DeltaOptions, GcOptions, Keyring, Memory, PublishOptions, Repository, RollbackOptions,
    SyncOptions, VerifyOptions,
};
use hfl::repo::survey::TrustPolicy;
use hfl::system::host::{Host, ThisHost};

use super::{HONEST, KEYS};
use crate::support::lab::Random;

/// The wall-clock time at which each scenario begins.
const EPOCH: u64 = 1_790_000_000;

/// The files of a mirror, by path.
pub type Tree = BTreeMap<String, Vec<u8>>;
/// The files of the honest mirrors.
pub type Trees = [Tree; 2];

/// A host whose wall clock stands still while an operation runs.
#[derive(Debug)]
struct Clock {
    now: AtomicU64,
    random: AtomicU64,
}

impl Host for Clock {
    fn boot(&self) -> Duration {
        ThisHost.boot()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix(self.now.load(Relaxed))
    }

    fn random(&self) -> u64 {
        Random(self.random.fetch_add(1, Relaxed)).next()
    }
}

/// One operation, or damage to the honest mirrors.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Publish { image: &'static str, contents: u64, without: Option<&'static str> },
    Rollback { version: u64 },
    Damage(Damage),
    Sync,
    Verify,
    Gc { keep: usize },
}

/// What is damaged on an honest mirror. The other one has a good copy.
#[derive(Debug, Clone, Copy)]
pub enum Damage {
    Block,
    Index,
    Signature,
    Head,
    File,
    List,
    Delta,
    Update,
}

impl Damage {
    const ALL: [Self; 8] =
        [Self::Block, Self::Index, Self::Signature, Self::Head, Self::File, Self::List, Self::Delta, Self::Update];
}

/// A sequence of steps, and how the images are published.
pub struct Scenario {
    /// Whether each image has its own key, or one key is used for all.
    own_keys: bool,
    /// Whether `os` is published with boot files and a profile.
    boots: bool,
    /// From how many older versions deltas are made.
    deltas: usize,
    pub steps: Vec<Step>,
}

impl Scenario {
    fn draw(number: usize) -> Self {
        let mut random = Random(number as u64);
        let own_keys = random.below(2) == 0;
        let boots = random.below(3) == 0;
        let deltas = random.below(3) as usize;
        let mut one_in = |of: u64| random.below(of) == 0;
        let publish = |image, contents, without| Step::Publish { image, contents, without };
        let mut steps = vec![publish("os", 1, None)];
        if one_in(2) {
            steps.push(publish("web", 1, None));
        }
        let without = [None, Some("b"), Some("a")][usize::from(one_in(2)) + usize::from(one_in(4))];
        steps.push(publish("os", 2, without));
        if one_in(4) {
            steps.push(Step::Gc { keep: 1 });
        }
        steps.push(Step::Sync);
        if one_in(3) && !steps.iter().any(|step| matches!(step, Step::Gc { .. })) {
            steps.push(Step::Rollback { version: 1 });
        }
        steps.extend(Damage::ALL.into_iter().filter(|_| one_in(4)).map(Step::Damage));
        steps.extend([Step::Verify, Step::Sync, Step::Gc { keep: 1 }]);
        if one_in(2) {
            steps.extend([publish("os", 3, None), Step::Verify, Step::Gc { keep: 1 }]);
        }
        Self { own_keys, boots, deltas, steps }
    }
}

/// A directory on a file system in memory, if there is one: nothing here has to survive a crash.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary directory")
}

/// A repository with or without a hostile mirror.
pub struct World {
    directory: tempfile::TempDir,
    /// The mirrors in the order of mirrors.toml.
    pub mirrors: Vec<&'static str>,
    pub scenario: Scenario,
    clock: Arc<Clock>,
}

impl World {
    pub fn new(number: usize, mirrors: Vec<&'static str>) -> Self {
        let scenario = Scenario::draw(number);
        let clock = Clock { now: AtomicU64::new(EPOCH), random: AtomicU64::new(7) };
        let world = Self { directory: directory(), mirrors, scenario, clock: Arc::new(clock) };
        world.write("boot/vmlinuz", b"a kernel, as far as this test goes");
        world.write("boot/initrd.img", b"a miniroot, as far as this test goes");
        for (image, (key, text)) in [("os", &KEYS.os), ("web", &KEYS.web)] {
            world.write(&format!("keys/{image}.key"), text.as_bytes());
            world.write(&format!("keys/{image}.pub"), key.public_file().as_bytes());
            let secret = fs::Permissions::from_mode(0o600);
            fs::set_permissions(world.path(&format!("keys/{image}.key")), secret).unwrap();
        }
        world
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn write(&self, file: &str, bytes: &[u8]) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn trust(&self, image: &str) -> Trust {
        let own = if self.scenario.own_keys && image == "web" { &KEYS.web } else { &KEYS.os };
        Trust::Key(own.0.public().clone())
    }

    fn repository(&self, without: Option<&str>) -> Repository {
        let mirrors = self.mirrors.iter().filter(|name| Some(**name) != without);
        let toml: String = mirrors.map(|m| format!("[[mirror]]\nname = \"{m}\"\nwrite = \"./{m}\"\n")).collect();
        let keyring = match self.scenario.own_keys {
            true => Keyring { directory: Some(self.path("keys")), ..Keyring::default() },
            false => Keyring { text: Some(KEYS.os.1.clone()), ..Keyring::default() },
        };
        let mut repository = Repository::new(Mirrors::parse(&toml).unwrap(), self.path(""), Some(keyring));
        repository.memory = Memory::below(Some(&self.path("state")));
        repository.host = Arc::clone(&self.clock) as Arc<dyn Host>;
        repository
    }

    fn policy(repository: &Repository) -> TrustPolicy {
        TrustPolicy::Known(repository.keyring.as_ref().map(Keyring::known_keys).unwrap_or_default())
    }

    /// Runs the step with this number. Returns a description of the result.
    pub async fn step(&self, number: usize) -> Result<String, Error> {
        self.clock.now.store(EPOCH + 1000 * number as u64, Relaxed);
        match self.scenario.steps[number] {
            Step::Publish { image, contents, without } => self.publish(number, image, contents, without).await,
            Step::Rollback { version } => {
                let (name, version) = ("os".parse().unwrap(), Version::new(version).unwrap());
                let options = RollbackOptions { name, version, label: None };
                let report = publish::rollback(&self.repository(None), &options, &Watch::silent()).await?;
                Ok(format!("version {}", report.version))
            }
            Step::Damage(damage) => {
                self.damage(damage);
                Ok(String::new())
            }
            Step::Sync => {
                let repository = self.repository(None);
                let policy = Self::policy(&repository);
                let report =
                    publish::sync(&repository, &SyncOptions { images: Vec::new(), policy }, &Watch::silent()).await?;
                Ok(format!("{:?}", report.images.iter().map(|image| &image.mirrors).collect::<Vec<_>>()))
            }
            Step::Verify => self.verify().await,
            Step::Gc { keep } => self.gc(keep).await,
        }
    }

    async fn publish(&self, step: usize, image: &str, contents: u64, without: Option<&str>) -> Result<String, Error> {
        let mut repository = self.repository(without);
        // A list of images or an index may only stop the first version. The error then says to pass `--first`.
        repository.first = self.begins(step) == Some(image);
        let boots = self.scenario.boots && image == "os";
        let boot = boots.then(|| BootOptions { directory: Some(self.path("boot")), ..BootOptions::default() });
        let file = format!("{image}-{contents}.img");
        self.write(&file, &image_of(image, contents));
        let profile = self.profile(boots && contents == 1);
        let options = PublishOptions {
            image: self.path(&file),
            name: image.parse().unwrap(),
            profile,
            split: Some("fixed 4096".parse().unwrap()),
            split_first: None,
            codec: Codec::Zlib(1),
            deltas: DeltaOptions { versions: self.scenario.deltas, bases: Vec::new() },
            label: None,
            boot,
            jobs: 1,
            force: false,
            as_it_is: true,
            zero_free: false,
            whole_sha256: false,
            tree: None,
            spool_directory: self.path("spool"),
            spool_max_bytes: 1 << 20,
        };
        let report = publish::publish(&repository, &options, &Watch::silent()).await?;
        Ok(format!("version {} {:?} {:?}", report.version, report.outcome, report.mirrors))
    }

    /// A profile of the first version of `os`.
    fn profile(&self, is_wanted: bool) -> Option<PathBuf> {
        if !is_wanted {
            return None;
        }
        let (id, _) = block::digests(&image_of("os", 1)[..4096]);
        let reads = vec![FirstRead { id, ms: 5, offset: 0 }];
        let profile = Profile::new("os".parse().unwrap(), Version::FIRST, reads).unwrap();
        self.write("os.profile", &profile.to_bytes());
        Some(self.path("os.profile"))
    }

    /// The image whose first version this step publishes.
    pub fn begins(&self, step: usize) -> Option<&'static str> {
        match self.scenario.steps[step] {
            Step::Publish { image, contents: 1, .. } => Some(image),
            _ => None,
        }
    }

    async fn verify(&self) -> Result<String, Error> {
        let repository = self.repository(None);
        let policy = Self::policy(&repository);
        let (only, images, seeds) = (Vec::new(), Vec::new(), Vec::new());
        let options = VerifyOptions { only, images, policy, deep: true, sample: 4, repair: true, seeds };
        let report = publish::verify(&repository, &options, &Watch::silent()).await?;
        Ok(report.remaining().map(|p| format!("{} {}: {}; ", p.mirror, p.path, p.what)).collect())
    }

    async fn gc(&self, keep: usize) -> Result<String, Error> {
        let (repository, images, retire) = (self.repository(None), Vec::new(), Vec::new());
        let options = GcOptions { images, keep, keep_days: 0, retire, grace_days: 0, more_than_half: true };
        let report = publish::gc(&repository, &options, &Watch::silent()).await?;
        Ok(format!("removed {:?}, {} blocks, {:?}", report.swept.versions, report.swept.blocks, report.swept.mirrors))
    }

    /// Damages the first file of a kind on one of the honest mirrors.
    fn damage(&self, damage: Damage) {
        let (mirror, begins, ends) = match damage {
            Damage::Block => ("a", "blocks/", ""),
            Damage::Index => ("b", "index/os/", ".idx"),
            // If its index is damaged on the other mirror, chance decides which of them is repaired first.
            Damage::Signature => ("b", "index/os/", ".minisig"),
            Damage::Head => ("b", "os", ".head"),
            Damage::File => ("a", "profile/", ""),
            // Not where the head is lost: a mirror without both is empty to sync, but not to gc, which lists it.
            Damage::List => ("a", "images", ""),
            Damage::Delta => ("a", "deltas/", ""),
            Damage::Update => ("b", "update/", ".update"),
        };
        let files = tree(&self.path(mirror));
        let found = files.iter().find(|(path, _)| path.starts_with(begins) && path.ends_with(ends));
        let Some((path, bytes)) = found else { return };
        match damage {
            Damage::Head | Damage::List => fs::remove_file(self.path(mirror).join(path)).unwrap(),
            _ => self.write(&format!("{mirror}/{path}"), &bytes[..bytes.len() / 2]),
        }
    }

    /// The files of the honest mirrors, byte for byte.
    pub fn honest(&self) -> Trees {
        HONEST.map(|mirror| tree(&self.path(mirror)))
    }

    /// The same, for comparison: without what may differ between two equivalent runs.
    pub fn compared(&self) -> Trees {
        HONEST.map(|mirror| {
            let files = tree(&self.path(mirror)).into_iter();
            files.map(|(path, bytes)| (path.clone(), self.comparable(&path, bytes))).collect()
        })
    }

    /// A signature contains random numbers, so only the comments of a valid one are compared. Any encoding of a block
    /// is equally good, so its decoded contents are compared.
    fn comparable(&self, path: &str, bytes: Vec<u8>) -> Vec<u8> {
        let Ok(path) = path.parse::<RepoPath>() else { return bytes };
        let is_signed = match path.kind() {
            Kind::Block(_) => return unwrapped(&bytes, 1 << 22).unwrap_or(bytes),
            Kind::Head(name) => SignedHead::parse(&bytes).is_ok_and(|h| h.verify(&self.trust(name.as_str())).is_ok()),
            Kind::Retirement(name, ..) => Retirement::read(&bytes, &path, &self.trust(name.as_str())).is_ok(),
            _ => path.as_str().ends_with(".minisig"),
        };
        if !is_signed {
            return bytes;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines: Vec<&str> = text.split('\n').collect();
        let seal = lines.len().saturating_sub(5);
        let shown = |(i, line): (usize, &&str)| match i.checked_sub(seal) {
            Some(1 | 3) => "(random)\n".to_owned(),
            _ => format!("{line}\n"),
        };
        lines.iter().enumerate().map(shown).collect::<String>().into_bytes()
    }
}

/// The files below a directory. Anything that is not a file appears as `(no file)`.
fn tree(base: &Path) -> Tree {
    let entries = walkdir::WalkDir::new(base).into_iter().flatten().filter(|entry| !entry.file_type().is_dir());
    let file = |entry: walkdir::DirEntry| {
        let path = entry.path().strip_prefix(base).expect("below").display().to_string();
        let bytes = if entry.file_type().is_file() { fs::read(entry.path()).unwrap() } else { b"(no file)".to_vec() };
        (path, bytes)
    };
    entries.map(file).collect()
}

/// Six blocks and a hole. One block is in all images, two are in all versions of this image, and one has most of its
/// bytes in common with that of other versions.
fn image_of(image: &str, contents: u64) -> Vec<u8> {
    let own = u64::from(image.as_bytes()[0]) << 8;
    let seeds = [1, own, own + 1, own + 10 * contents, own + 10 * (contents % 2) + 5];
    let blocks = seeds.iter().flat_map(|seed| Random(*seed).bytes(4096));
    let changed = [Random(own + 2).bytes(3072), Random(own + 10 * contents + 1).bytes(1024)].concat();
    blocks.chain(changed).chain([0; 4096]).collect()
}
