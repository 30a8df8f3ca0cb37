//! A hostile mirror beside two honest ones. Before every operation its owner puts another tree of files there: real formats
//! with forged words, what the honest ones published at any time, files where directories should be. He has no key of ours.
//! Whatever he shows, the honest mirrors hold after each operation what they hold in a repository without him.
//!
//! A failure says its seed; `HFL_HOSTILE=SEED` shows that one, step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::{Duration, Instant};

use hfl::block::{self, unwrapped};
use hfl::digest::Sha256;
use hfl::head::{Seal, SealedHead, Trust, VersionRow};
use hfl::layout::{Kind, RepoPath};
use hfl::mirrors::Mirrors;
use hfl::name::{Name, Version};
use hfl::profile::{FirstRead, Profile};
use hfl::publish::{self, BootOptions, Error, GcOptions, Keyring, Memory, Options, Silent, VerifyOptions, Watch, Work};
use hfl::retirement::Retirement;
use hfl::sign::SecretKey;
use hfl::store::host::{Host, ThisHost};
use hfl::survey::TrustPolicy;
use hfl::time::Timestamp;

use crate::lab::{Random, check_mirror, full};

/// Different courses of events; what the honest mirrors hold without a hostile one is found out once for each.
const SCENARIOS: usize = 48;
/// The time of the calendar at which each of them begins.
const EPOCH: u64 = 1_790_000_000;
/// How long an operation may take, and all operations of a seed on the average: the machine may have much else to do.
const OPERATION_MAX: Duration = Duration::from_secs(60);
const SEED_MAX: Duration = Duration::from_secs(5);
/// The names of the mirrors.
const HONEST: [&str; 2] = ["a", "b"];
const HOSTILE: &str = "c";

/// The files of a mirror, by path.
type Tree = BTreeMap<String, Vec<u8>>;
/// What the honest mirrors hold.
type Trees = [Tree; 2];

/// Keys of the two images, and of the hostile mirror's owner.
struct Keys {
    os: (SecretKey, String),
    web: (SecretKey, String),
    owner: SecretKey,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let key = || SecretKey::generate().expect("a key");
    Keys { os: key(), web: key(), owner: key().0 }
});

/// A machine whose calendar stands still while an operation runs.
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

/// One operation, or what befalls the honest mirrors.
#[derive(Debug, Clone, Copy)]
enum Step {
    Publish { image: &'static str, contents: u64, without: Option<&'static str> },
    Rollback { version: u64 },
    Damage(Damage),
    Sync,
    Verify,
    Gc { keep: usize },
}

/// What is lost on an honest mirror; the other one has it.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Block,
    Index,
    Signature,
    Head,
    File,
    List,
}

/// A course of events.
struct Scenario {
    /// Whether each image has a key of its own, or one is given for all.
    own_keys: bool,
    /// Whether `os` has files to boot it with, and a profile.
    boots: bool,
    steps: Vec<Step>,
}

impl Scenario {
    fn draw(number: usize) -> Self {
        let mut random = Random(number as u64);
        let own_keys = random.below(2) == 0;
        let boots = random.below(3) == 0;
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
        for damage in [Damage::Block, Damage::Index, Damage::Signature, Damage::Head, Damage::File, Damage::List] {
            if one_in(4) {
                steps.push(Step::Damage(damage));
            }
        }
        steps.extend([Step::Verify, Step::Sync, Step::Gc { keep: 1 }]);
        if one_in(2) {
            steps.extend([publish("os", 3, None), Step::Verify, Step::Gc { keep: 1 }]);
        }
        Self { own_keys, boots, steps }
    }
}

/// A place on a file system in memory where there is one: nothing here has to outlast a crash.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary directory")
}

/// A repository, with a hostile mirror or without.
struct World {
    directory: tempfile::TempDir,
    /// The mirrors as mirrors.toml has them.
    mirrors: Vec<&'static str>,
    scenario: Scenario,
    clock: Arc<Clock>,
}

impl World {
    fn new(number: usize, mirrors: Vec<&'static str>) -> Self {
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

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn write(&self, file: &str, bytes: &[u8]) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn trust(&self, image: &str) -> Trust {
        let own = if self.scenario.own_keys && image == "web" { &KEYS.web } else { &KEYS.os };
        Trust::Key(own.0.public().clone())
    }

    fn work(&self, without: Option<&str>) -> Work {
        let mirrors = self.mirrors.iter().filter(|name| Some(**name) != without);
        let toml: String = mirrors.map(|m| format!("[[mirror]]\nname = \"{m}\"\nwrite = \"./{m}\"\n")).collect();
        let keyring = match self.scenario.own_keys {
            true => Keyring { directory: Some(self.path("keys")), ..Keyring::default() },
            false => Keyring { text: Some(KEYS.os.1.clone()), ..Keyring::default() },
        };
        let mut work = Work::new(Mirrors::parse(&toml).unwrap(), self.path(""), Some(keyring));
        work.memory = Memory::below(Some(&self.path("state")));
        work.host = Arc::clone(&self.clock) as Arc<dyn Host>;
        work
    }

    fn policy(work: &Work) -> TrustPolicy {
        TrustPolicy::Known(work.keyring.as_ref().map(Keyring::known_keys).unwrap_or_default())
    }

    /// Carries out the step of this number; says what came of it.
    async fn step(&self, number: usize) -> Result<String, Error> {
        self.clock.now.store(EPOCH + 1000 * number as u64, Relaxed);
        match self.scenario.steps[number] {
            Step::Publish { image, contents, without } => self.publish(number, image, contents, without).await,
            Step::Rollback { version } => {
                let (image, version) = ("os".parse().unwrap(), Version::new(version).unwrap());
                let (progress, cancel) = (Arc::new(Silent), Arc::default());
                let report = publish::rollback(self.work(None), image, version, None, progress, cancel).await?;
                Ok(format!("version {}", report.version))
            }
            Step::Damage(damage) => {
                self.damage(damage);
                Ok(String::new())
            }
            Step::Sync => {
                let (work, watch) = (self.work(None), Watch { progress: Arc::new(Silent), cancel: Arc::default() });
                let policy = Self::policy(&work);
                let report = publish::sync(work, Vec::new(), policy, watch).await?;
                Ok(format!("{:?}", report.images.iter().map(|image| &image.mirrors).collect::<Vec<_>>()))
            }
            Step::Verify => self.verify().await,
            Step::Gc { keep } => self.gc(keep).await,
        }
    }

    async fn publish(&self, step: usize, image: &str, contents: u64, without: Option<&str>) -> Result<String, Error> {
        let mut work = self.work(without);
        // A list of images or an index may only hold up the first version: it is said then what to say.
        work.first = self.begins(step) == Some(image);
        let boots = self.scenario.boots && image == "os";
        let boot = boots.then(|| BootOptions { directory: Some(self.path("boot")), ..BootOptions::default() });
        let file = format!("{image}-{contents}.img");
        self.write(&file, &image_of(image, contents));
        let profile = self.profile(boots && contents == 1);
        let options = Options {
            work,
            image: self.path(&file),
            name: image.parse().unwrap(),
            profile,
            split: "fixed:4096".parse().unwrap(),
            level: Some(1),
            label: None,
            boot,
            jobs: 1,
            force: false,
            as_it_is: true,
            spool_directory: self.path("spool"),
            spool_max_bytes: 1 << 20,
        };
        let report = publish::publish(options, Arc::new(Silent), Arc::default()).await?;
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

    /// The image of which this step publishes the first version.
    fn begins(&self, step: usize) -> Option<&'static str> {
        match self.scenario.steps[step] {
            Step::Publish { image, contents: 1, .. } => Some(image),
            _ => None,
        }
    }

    async fn verify(&self) -> Result<String, Error> {
        let work = self.work(None);
        let policy = Self::policy(&work);
        let (only, images, seeds) = (Vec::new(), Vec::new(), Vec::new());
        let options = VerifyOptions { work, only, images, policy, deep: true, sample: 4, repair: true, seeds };
        let report = publish::verify(options, Arc::new(Silent), Arc::default()).await?;
        Ok(report.remaining().map(|p| format!("{} {}: {}; ", p.mirror, p.path, p.what)).collect())
    }

    async fn gc(&self, keep: usize) -> Result<String, Error> {
        let (work, images, retire) = (self.work(None), Vec::new(), Vec::new());
        let options = GcOptions { work, images, keep, keep_days: 0, retire, grace_days: 0, more_than_half: true };
        let report = publish::gc(options, Arc::new(Silent), Arc::default()).await?;
        Ok(format!("removed {:?}, {} blocks, {:?}", report.swept.versions, report.swept.blocks, report.swept.mirrors))
    }

    /// Damages the first file of a kind on one of the honest mirrors.
    fn damage(&self, damage: Damage) {
        let (mirror, begins, ends) = match damage {
            Damage::Block => ("a", "blocks/", ""),
            Damage::Index => ("b", "index/os/", ".idx"),
            // Where its index is damaged on the other mirror, chance decides which of them is repaired first.
            Damage::Signature => ("b", "index/os/", ".minisig"),
            Damage::Head => ("b", "os", ".head"),
            Damage::File => ("a", "profile/", ""),
            Damage::List => ("b", "images", ""),
        };
        let files = tree(&self.path(mirror));
        let found = files.iter().find(|(path, _)| path.starts_with(begins) && path.ends_with(ends));
        let Some((path, bytes)) = found else { return };
        match damage {
            Damage::Head | Damage::List => fs::remove_file(self.path(mirror).join(path)).unwrap(),
            _ => self.write(&format!("{mirror}/{path}"), &bytes[..bytes.len() / 2]),
        }
    }

    /// What the honest mirrors hold, byte for byte.
    fn honest(&self) -> Trees {
        HONEST.map(|mirror| tree(&self.path(mirror)))
    }

    /// The same, as it is compared: what may differ between two runs that are equal is taken out of it.
    fn compared(&self) -> Trees {
        HONEST.map(|mirror| {
            let files = tree(&self.path(mirror)).into_iter();
            files.map(|(path, bytes)| (path.clone(), self.comparable(&path, bytes))).collect()
        })
    }

    /// A signature has random numbers in it: of one that verifies only the comments are compared. Any encoding of a block is
    /// as good as another one: what it decodes to is compared.
    fn comparable(&self, path: &str, bytes: Vec<u8>) -> Vec<u8> {
        let Ok(path) = path.parse::<RepoPath>() else { return bytes };
        let is_signed = match path.kind() {
            Kind::Block(_) => return unwrapped(&bytes, 1 << 22).unwrap_or(bytes),
            Kind::Head(name) => SealedHead::parse(&bytes).is_ok_and(|h| h.verify(&self.trust(name.as_str())).is_ok()),
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

/// The files below a directory; what is not one shows as such.
fn tree(base: &Path) -> Tree {
    let entries = walkdir::WalkDir::new(base).into_iter().flatten().filter(|entry| !entry.file_type().is_dir());
    let file = |entry: walkdir::DirEntry| {
        let path = entry.path().strip_prefix(base).expect("below").display().to_string();
        let bytes = if entry.file_type().is_file() { fs::read(entry.path()).unwrap() } else { b"(no file)".to_vec() };
        (path, bytes)
    };
    entries.map(file).collect()
}

/// Six blocks, of which one is in all images, two in all versions of this one, and a hole.
fn image_of(image: &str, contents: u64) -> Vec<u8> {
    let own = u64::from(image.as_bytes()[0]) << 8;
    let seeds = [1, own, own + 1, own + 10 * contents, own + 10 * contents + 1, own + 10 * (contents % 2) + 5];
    let blocks = seeds.iter().flat_map(|seed| Random(*seed).bytes(4096));
    blocks.chain([0; 4096]).collect()
}

/// What the honest mirrors hold after each step of a scenario without a hostile one.
fn control(number: usize, runtime: &tokio::runtime::Runtime) -> &'static [Trees] {
    static CONTROLS: [OnceLock<Vec<Trees>>; SCENARIOS] = [const { OnceLock::new() }; SCENARIOS];
    CONTROLS[number].get_or_init(|| {
        let world = World::new(number, HONEST.to_vec());
        let run = |step| {
            let done = runtime.block_on(world.step(step));
            assert!(done.is_ok(), "without a hostile mirror: {:?} fails: {done:?}", world.scenario.steps[step]);
            world.compared()
        };
        (0..world.scenario.steps.len()).map(run).collect()
    })
}

/// What lies in the hostile mirror's directory.
#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>),
    /// A file of so many zeros, which take no room.
    Zeros(u64),
    Directory,
    /// A symbolic link.
    Link(String),
    Pipe,
    /// A directory with a name in it that is no text.
    Odd,
}

/// The owner of the hostile mirror: makes up its files out of what was ever published.
struct Owner<'a> {
    random: Random,
    /// What the honest mirrors held after each step until now.
    past: &'a [Trees],
    files: BTreeMap<String, Node>,
}

impl<'a> Owner<'a> {
    fn new(random: Random, past: &'a [Trees]) -> Self {
        Self { random, past, files: BTreeMap::new() }
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.random.below(of.len() as u64) as usize].clone())
    }

    /// All that an honest mirror held at some time.
    fn state(&mut self) -> Option<&'a Tree> {
        let state = self.random.below(self.past.len().max(1) as u64) as usize;
        let mirror = self.random.below(2) as usize;
        self.past.get(state).map(|trees| &trees[mirror])
    }

    /// A file that was published, at some time, with this beginning and end of its path.
    fn real(&mut self, begins: &str, ends: &str) -> Option<(String, Vec<u8>)> {
        let fits = |path: &&String| path.starts_with(begins) && path.ends_with(ends);
        let state = self.state()?;
        let paths: Vec<&String> = state.keys().filter(fits).collect();
        let path = self.pick(&paths)?;
        Some((path.clone(), state[path].clone()))
    }

    fn put(&mut self, path: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.files.insert(path.into(), Node::File(bytes.into()));
    }

    /// A path of the tree as it is now, or one that was published.
    fn any_path(&mut self) -> Option<String> {
        let paths: Vec<String> = self.files.keys().cloned().collect();
        match self.random.below(3) {
            0 => Some(self.real("", "")?.0),
            _ => self.pick(&paths),
        }
    }

    /// Makes up a tree.
    fn invent(&mut self) {
        match self.random.below(6) {
            0 => {}
            1 => self.mix(),
            2 => self.take(self.past.len().saturating_sub(1)),
            _ => {
                let state = self.random.below(self.past.len().max(1) as u64);
                self.take(state as usize);
            }
        }
        for _ in 0..self.random.below(14) {
            let _ = self.forge();
        }
    }

    fn take(&mut self, state: usize) {
        let Some(trees) = self.past.get(state) else { return };
        let mirror = self.random.below(2) as usize;
        self.files.extend(trees[mirror].iter().map(|(path, bytes)| (path.clone(), Node::File(bytes.clone()))));
    }

    /// Of each path what lay there at some time, or nothing.
    fn mix(&mut self) {
        let paths: BTreeSet<&String> = self.past.iter().flatten().flat_map(Tree::keys).collect();
        for path in paths {
            if let Some(bytes) = self.state().and_then(|state| state.get(path))
                && self.random.below(6) > 0
            {
                self.put(path.clone(), bytes.clone());
            }
        }
    }

    /// Does one thing that he should not.
    fn forge(&mut self) -> Option<()> {
        match self.random.below(24) {
            0 | 1 => self.old_head(),
            2 | 3 => self.forged_head(),
            4 | 5 => self.list(),
            6 | 7 => self.forged_record(),
            8 => self.signed_record(),
            9 | 10 => self.moved_record(),
            11 | 12 => self.moved_index(),
            13 => self.other_signature(),
            14 | 15 => self.wrong_block(),
            16 => self.lock(),
            17 => self.swap_kind(),
            18 => self.strange_names(),
            19 => self.further_files(),
            20 => self.left_over(),
            21 => self.lose(),
            22 => self.break_file(),
            _ => self.other_comment(),
        }
    }

    /// A head of ours that is older, or that of another image.
    fn old_head(&mut self) -> Option<()> {
        let (path, bytes) = self.real("", ".head")?;
        let names = [path.as_str(), path.as_str(), "os.head", "web.head", "new.head", "a.head"];
        let name = self.pick(&names)?.to_owned();
        self.put(name, bytes);
        Some(())
    }

    /// A head of the same image that says whatever he likes, with his own signature or none.
    fn forged_head(&mut self) -> Option<()> {
        let (path, bytes) = self.real("", ".head")?;
        let mut head = SealedHead::parse(&bytes).ok()?.unverified().clone();
        let mut row = head.newest().clone();
        match self.random.below(4) {
            0 => {}
            1 => head.versions.truncate(1),
            2 => {
                let index = self.real("index/", ".idx")?.1;
                head.versions[0].index_sha256 = Sha256::of(&index);
                head.versions[0].index_bytes = index.len() as u64;
            }
            _ => {
                let highest = self.pick(&[row.version.number() + 1, 4_000_000_000, u32::MAX])?;
                row.version = Version::new(u64::from(highest))?;
                head.versions.insert(0, row);
            }
        }
        head.created = Timestamp::from_unix(head.created.unix() + self.random.below(1 << 33));
        let name = self.pick(&[path.as_str(), "new.head", "zz.head"])?.to_owned();
        head.image = name.strip_suffix(".head")?.parse().ok()?;
        let seal = match self.random.below(3) {
            0 => Seal::Unsigned,
            _ => signed_by_owner(&head.body(), &head.trusted_comment()),
        };
        self.put(name, SealedHead::new(head, seal).ok()?.to_bytes());
        Some(())
    }

    /// A list of images that names what is not there, has no end, or is none.
    fn list(&mut self) -> Option<()> {
        let count = [3, 40, 300, if self.random.below(10) == 0 { 5000 } else { 7 }][self.random.below(4) as usize];
        let names = || (0..count).map(|i| format!("n{i}\n")).collect::<String>();
        let text = match self.random.below(9) {
            0 => names(),
            1 => names() + "os\nweb\n",
            2 => "os\nzz\nweb\naa\nos".to_owned(),
            3 => "os\r\nweb\r\n".to_owned(),
            4 => "../../etc/passwd\n-rf\n".to_owned(),
            5 => String::new(),
            6 => "os\n".to_owned() + &"x".repeat(300_000),
            7 => {
                self.files.insert("images".into(), Node::Zeros(1 << 40));
                return Some(());
            }
            _ => "new\nos\nweb\n".to_owned(),
        };
        self.put("images", text);
        Some(())
    }

    /// The version of an index that was published, as a head has it.
    fn row(&mut self) -> Option<(Name, VersionRow)> {
        let head = SealedHead::parse(&self.real("", ".head")?.1).ok()?;
        let rows = head.unverified().versions.clone();
        Some((head.unverified().image.clone(), self.pick(&rows)?))
    }

    /// A record that names all that there is, long over; unsigned, or with no end.
    fn forged_record(&mut self) -> Option<()> {
        let (image, row) = self.row()?;
        let (bytes, digest) = (row.index_bytes, row.index_sha256);
        let version = self.pick(&[row.version.number(), row.version.number(), 7, 4_000_000_000])?;
        let mut text = format!("HFL-RETIRED 1\nimage {image}\nmarked 2000-01-01T00:00:00Z\n");
        text += &format!("version {version} {bytes} {digest} 2000-01-01T00:00:00Z 4096\n");
        if self.random.below(2) == 0 {
            let named = self.state()?.keys();
            text.extend(named.map(|path| format!("file {path} 1 {digest}\n")));
        }
        text += self.pick(&["", "--\nunsigned\n", "--\n"])?;
        let elsewhere = if self.random.below(4) == 0 { "web".parse().unwrap() } else { image };
        self.put(RepoPath::retirement(&elsewhere, Version::new(version.into())?, &digest).as_str(), text);
        Some(())
    }

    /// A record in the best of forms, at the right place, with his signature.
    fn signed_record(&mut self) -> Option<()> {
        let (image, row) = self.row()?;
        let row = VersionRow { new_bytes: 0, label: None, ..row };
        let retirement = Retirement { image, marked: Timestamp::from_unix(1_000_000_000), row, files: Vec::new() };
        let seal = match self.random.below(2) {
            0 => Seal::Unsigned,
            _ => signed_by_owner(&retirement.body(), &retirement.trusted_comment()),
        };
        self.put(retirement.path().as_str(), retirement.to_bytes(&seal));
        Some(())
    }

    /// A record of ours, at its place or at that of another version or image.
    fn moved_record(&mut self) -> Option<()> {
        let (path, bytes) = self.real("retired/", "")?;
        let (image, row) = self.row()?;
        let digits = path.rsplit('-').next()?;
        let places = [
            path.clone(),
            RepoPath::retirement(&image, row.version, &row.index_sha256).to_string(),
            format!("retired/{image}/{}-{digits}", row.version),
            format!("retired/web/4000000000-{digits}"),
        ];
        let place = self.pick(&places)?;
        self.put(place, bytes);
        Some(())
    }

    /// An index under a number or a name that is not its own, with the real signature beside it.
    fn moved_index(&mut self) -> Option<()> {
        let (path, bytes) = self.real("index/", ".idx")?;
        let signature = self.real(&path, ".minisig").map(|(_, bytes)| bytes);
        let digest = Sha256::of(&bytes);
        let image: Name = self.pick(&["os", "web", "new"])?.parse().ok()?;
        let number = self.pick(&[1, 2, 3, 9, 4_000_000_000, u64::from(u32::MAX)])?;
        let place = RepoPath::index(&image, Version::new(number)?, &digest);
        self.put(place.as_str(), bytes.clone());
        if let Some(signature) = signature {
            self.put(place.signature().as_str(), signature);
        }
        if self.random.below(2) == 0 {
            let other = self.real("index/", ".idx")?.0;
            self.put(other, bytes);
        }
        Some(())
    }

    /// The signature of something else, or one of his own.
    fn other_signature(&mut self) -> Option<()> {
        let (place, of) = (self.real("", ".minisig")?.0, self.real("", ".minisig")?.1);
        let own = || {
            let seal = Retirement::to_bytes(&record(), &signed_by_owner(b"x", "hfl index os 1 x"));
            let text = String::from_utf8(seal).ok()?;
            Some(text.split_once("--\n")?.1.as_bytes().to_vec())
        };
        let bytes = if self.random.below(2) == 0 { own()? } else { of };
        self.put(place, bytes);
        Some(())
    }

    /// What is not the block that its name says, or is, packed in another way.
    fn wrong_block(&mut self) -> Option<()> {
        let (path, bytes) = self.real("blocks/", "")?;
        let wrong = match self.random.below(7) {
            0 => self.real("blocks/", "")?.1,
            1 => bytes[..bytes.len() / 2].to_vec(),
            2 => Vec::new(),
            3 => packed(&vec![0; 1 << 20], 9),
            4 => packed(&unwrapped(&bytes, 1 << 20)?, self.random.below(10) as u32),
            5 => [bytes.as_slice(), b"and more"].concat(),
            _ => Random(self.random.next()).bytes(bytes.len()),
        };
        self.put(path, wrong);
        Some(())
    }

    fn lock(&mut self) -> Option<()> {
        let held = "HFL-LOCK 1\ntoken 00000000000000000000000000000007\nprocess far away 7 1 1\nbeat 5\nstate held\n";
        let text = self.pick(&[held, "", "\0\0\0", "HFL-LOCK 1\n"])?;
        self.put("publish.lock", text);
        Some(())
    }

    /// A directory where a file should be, a file where a directory should be, or neither of them.
    fn swap_kind(&mut self) -> Option<()> {
        let path = self.any_path()?;
        let above = path.split('/').next()?.to_owned();
        match self.random.below(6) {
            0 => self.files.insert(path, Node::Directory),
            1 => self.files.insert(format!("{path}/inside"), Node::File(b"x".to_vec())),
            2 => self.files.insert(above, Node::File(b"x".to_vec())),
            // One that leads nowhere costs 40 s, in which it might come back, and is left out like a lock that beats. So is
            // one to a directory of an honest mirror: what is written there by that name is written by the publisher.
            3 => self.files.insert(path, Node::Link("/dev/null".into())),
            4 => self.files.insert(path.clone(), Node::Link(path.rsplit('/').next()?.to_owned())),
            _ => self.files.insert(path, Node::Pipe),
        };
        Some(())
    }

    fn strange_names(&mut self) -> Option<()> {
        let long = "n".repeat(250);
        let path = match self.random.below(6) {
            0 => vec!["d"; 60].join("/"),
            1 => format!("blocks/{long}"),
            2 => format!("{}.head", "n".repeat(64)),
            3 => format!("{long}.head"),
            4 => " a name\nwith a line in it".to_owned(),
            _ => {
                self.files.insert("index/os/odd".into(), Node::Odd);
                return Some(());
            }
        };
        self.put(path, "x");
        Some(())
    }

    /// Clients, profiles, boot files, pages; and marks of other programs.
    fn further_files(&mut self) -> Option<()> {
        let cache = "Signature: 8a477f597d28d172789f06886806bc55\n# This directory is a cache of hfl: what lies in it is removed when room is needed.\n";
        let number = self.random.below(5);
        let path = match self.random.below(8) {
            0 => format!("boot/os/{number}/vmlinuz-0123456789ab"),
            1 => format!("boot/os/{number}/cmdline-0123456789ab.minisig"),
            2 => format!("profile/os/{number}-0123456789ab.profile"),
            3 => "client/hfl-mount-9.0.0-x86_64-linux-0123456789ab".to_owned(),
            4 => "index.html".to_owned(),
            5 => "os.head2".to_owned(),
            6 => "boot/os/boot.ipxe".to_owned(),
            _ => "CACHEDIR.TAG".to_owned(),
        };
        self.put(path, cache);
        Some(())
    }

    fn left_over(&mut self) -> Option<()> {
        let path = self.pick(&[".hfl-tmp", ".hfl-tmp/1-2", ".hfl-tmp/7/8", "blocks/.hfl-tmp", "os.head.hfl-tmp"])?;
        let node = match self.random.below(3) {
            0 => Node::File(b"x".to_vec()),
            1 => Node::Directory,
            // What is swept there would be the files of an honest mirror.
            _ => Node::Link(if path == ".hfl-tmp" { "../a" } else { "/dev/zero" }.into()),
        };
        self.files.insert(path.to_owned(), node);
        Some(())
    }

    /// Leaves out all of one kind.
    fn lose(&mut self) -> Option<()> {
        let (begins, ends) = self.pick(&[
            ("blocks/", ""),
            ("index/", ""),
            ("", ".head"),
            ("images", ""),
            ("", ".minisig"),
            ("retired/", ""),
            ("blocks/0", ""),
            ("os", ""),
        ])?;
        self.files.retain(|path, _| !(path.starts_with(begins) && path.ends_with(ends)));
        Some(())
    }

    /// Cuts a file off, changes a bit of it, empties it, makes it endless.
    fn break_file(&mut self) -> Option<()> {
        let path = self.any_path()?;
        let Some(Node::File(bytes)) = self.files.get(&path) else { return None };
        let (mut bytes, length) = (bytes.clone(), bytes.len());
        let at = self.random.below(length.max(1) as u64) as usize;
        match self.random.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.clear(),
            2 => bytes.extend_from_slice(b"unsigned\n"),
            3 => drop(bytes.get_mut(at).map(|byte| *byte ^= 1 << (at % 8))),
            _ => {
                self.files.insert(path, Node::Zeros(1 << 40));
                return Some(());
            }
        }
        self.put(path, bytes);
        Some(())
    }

    /// The first line of a signature is signed by nobody.
    fn other_comment(&mut self) -> Option<()> {
        let ends = self.pick(&[".head", ".minisig", ""])?;
        let (path, bytes) = self.real(if ends.is_empty() { "retired/" } else { "" }, ends)?;
        let text = String::from_utf8(bytes).ok()?;
        let own = "untrusted comment: ask at http://evil.test/ instead";
        self.put(path, text.replace("untrusted comment: signature of hfl", own));
        Some(())
    }

    /// Puts the tree where the mirror is.
    fn lay(mut self, base: &Path, begins: Option<&str>) {
        // An image that is begun leaves out the numbers that any listed index has in its name: that is told in the format.
        if let Some(image) = begins {
            self.files.retain(|path, _| !path.starts_with(&format!("index/{image}/")));
        }
        let _ = fs::remove_file(base);
        let _ = fs::remove_dir_all(base);
        match self.random.below(60) {
            0 => return,
            1 => return fs::write(base, "no directory").unwrap(),
            _ => fs::create_dir(base).unwrap(),
        }
        let is_linked = |path: &str| {
            let above = Path::new(path).ancestors().skip(1).filter_map(Path::to_str);
            above.into_iter().any(|above| matches!(self.files.get(above), Some(Node::Link(_))))
        };
        // He writes nothing to an honest mirror himself.
        for (path, node) in self.files.iter().filter(|(path, _)| !is_linked(path)) {
            let path = base.join(path);
            let _ = path.parent().map(fs::create_dir_all);
            // What cannot be, such as a file below a file, is left out.
            let _ = node.lay(&path);
        }
    }
}

impl Node {
    fn lay(&self, path: &Path) -> std::io::Result<()> {
        match self {
            Self::File(bytes) => fs::write(path, bytes),
            Self::Zeros(bytes) => fs::File::create(path)?.set_len(*bytes),
            Self::Directory => fs::create_dir_all(path),
            Self::Link(to) => std::os::unix::fs::symlink(to, path),
            Self::Pipe => {
                let mode = rustix::fs::Mode::from_raw_mode(0o644);
                Ok(rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)?)
            }
            Self::Odd => {
                fs::create_dir_all(path)?;
                fs::write(path.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "x")
            }
        }
    }
}

fn signed_by_owner(body: &[u8], comment: &str) -> Seal {
    Seal::Signed(Box::new(KEYS.owner.sign(body, comment).expect("a signature")))
}

/// Some record, for what follows it.
fn record() -> Retirement {
    let row = VersionRow {
        version: Version::FIRST,
        index_bytes: 1,
        index_sha256: Sha256::of(b"x"),
        created: Timestamp::from_unix(0),
        size: 1,
        new_bytes: 0,
        label: None,
    };
    Retirement { image: "os".parse().unwrap(), marked: Timestamp::from_unix(0), row, files: Vec::new() }
}

fn packed(bytes: &[u8], level: u32) -> Vec<u8> {
    use std::io::Write as _;
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(level));
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// What many seeds came to.
#[derive(Debug, Default)]
struct Sum {
    operations: AtomicU64,
    files: AtomicU64,
    longest_ms: AtomicU64,
}

/// Runs one seed; says where the honest mirrors hold something else than without the hostile one.
fn run(seed: u64, runtime: &tokio::runtime::Runtime, sum: &Sum, is_shown: bool) -> Result<(), String> {
    let mut random = Random(seed ^ 0x5eed);
    let number = random.below(SCENARIOS as u64) as usize;
    let expected = control(number, runtime);
    let mut mirrors = HONEST.to_vec();
    mirrors.insert(random.below(3) as usize, HOSTILE);
    let world = World::new(number, mirrors);
    let mut past = Vec::new();
    for (step, expected) in expected.iter().enumerate() {
        let what = format!("seed {seed}, scenario {number}, step {step} {:?}", world.scenario.steps[step]);
        let mut owner = Owner::new(Random(random.next()), &past);
        owner.invent();
        sum.files.fetch_add(owner.files.len() as u64, Relaxed);
        owner.lay(&world.path(HOSTILE), world.begins(step));
        let shown = if is_shown { shape(&world.path(HOSTILE)) } else { String::new() };
        let started = Instant::now();
        let done = runtime.block_on(world.step(step));
        let took = started.elapsed();
        sum.operations.fetch_add(1, Relaxed);
        sum.longest_ms.fetch_max(took.as_millis() as u64, Relaxed);
        if is_shown {
            println!("{what}, mirrors {:?}\n{shown}-> {done:?}, {took:.1?}\n", world.mirrors);
        }
        let said = done.map_err(|e| format!("{what}: {e}"))?;
        if took > OPERATION_MAX {
            return Err(format!("{what}: took {took:.0?}"));
        }
        let differences = differences(expected, &world.compared());
        if !differences.is_empty() {
            return Err(format!("{what}: {said}\n{differences}"));
        }
        past.push(world.honest());
    }
    for mirror in HONEST {
        check_mirror(&world.path(mirror), "os", &world.trust("os"));
    }
    Ok(())
}

/// The hostile mirror's files, to be shown.
fn shape(base: &Path) -> String {
    let line = |entry: walkdir::DirEntry| {
        let (path, bytes) = (entry.path().strip_prefix(base).expect("below"), entry.metadata().map_or(0, |m| m.len()));
        (!entry.file_type().is_dir()).then(|| format!("    {} {bytes}\n", path.display()))
    };
    walkdir::WalkDir::new(base).sort_by_file_name().into_iter().flatten().filter_map(line).collect()
}

fn differences(expected: &Trees, found: &Trees) -> String {
    let mut text = String::new();
    for (mirror, (expected, found)) in HONEST.iter().zip(expected.iter().zip(found)) {
        let paths: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        for path in paths {
            let shown = match (expected.get(path), found.get(path)) {
                (Some(one), Some(two)) if one == two => continue,
                (Some(one), Some(two)) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(2000).collect::<String>();
                    format!("differs:\n{}\n  and with the hostile mirror:\n{}", text(one), text(two))
                }
                (Some(_), None) => "is missing".to_owned(),
                (None, _) => "should not be there".to_owned(),
            };
            text += &format!("  {mirror}/{path} {shown}\n");
        }
    }
    text
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn the_honest_mirrors_hold_what_they_would_hold_without_the_hostile_one() {
    let (sum, started) = (Sum::default(), Instant::now());
    if let Some(seed) = number("HFL_HOSTILE") {
        assert_eq!(run(seed, &runtime(), &sum, true), Ok(()));
        return;
    }
    let seeds = number("HFL_SEEDS").unwrap_or(if full() { 10_000 } else { 200 });
    let (next, failed) = (AtomicU64::new(0), Mutex::new(None));
    let work = || {
        let runtime = runtime();
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds || failed.lock().unwrap().is_some() {
                return;
            }
            if let Err(why) = run(seed, &runtime, &sum, false) {
                failed.lock().unwrap().get_or_insert((seed, why));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
    if let Some((seed, why)) = failed.into_inner().unwrap() {
        panic!("HFL_HOSTILE={seed} shows it: {why}");
    }
    let took = started.elapsed();
    println!("{seeds} seeds in {took:.0?}: {sum:?}");
    assert!(took < SEED_MAX * seeds.max(1) as u32, "a hostile mirror holds the others up: {took:.0?}");
}
