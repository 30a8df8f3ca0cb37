//! One simulation run, drawn from its seed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hfl::Error;
use hfl::config::Mirrors;
use hfl::format::block::{Codec, digests};
use hfl::format::head::Trust;
use hfl::format::layout::{Kind, RepoPath};
use hfl::format::name::{Name, Version};
use hfl::format::signing::SecretKey;
use hfl::progress::Watch;
use hfl::publish::{
    self, DeltaOptions, GcOptions, Keyring, Memory, PublishOptions, Report, Repository, RollbackOptions, SyncOptions,
    VerifyOptions,
};
use hfl::repo::survey::TrustPolicy;
use hfl::split::Rule;
use hfl::system::host::Host;
use tokio::time::Instant;

use crate::check::Checker;
use crate::store::Network;
use crate::world::{Chance, Machine, Mirror, Weather, World};

/// The result of a run.
pub struct Outcome {
    pub violations: Vec<String>,
    pub operations: u64,
    pub calls: u64,
    pub faults: u64,
    pub checks: u64,
    pub trace: Vec<String>,
}

/// One key for all runs: generating a key takes longer than a run.
static KEY: LazyLock<(String, Trust)> = LazyLock::new(|| {
    let (key, text) = SecretKey::generate().expect("a key");
    (text, Trust::Key(key.public().clone()))
});

struct Simulation {
    world: Arc<World>,
    machines: Vec<Arc<Machine>>,
    /// Directories of the machines in the real file system, for images and state.
    homes: Vec<tempfile::TempDir>,
    operations: AtomicU64,
    images: Vec<Name>,
    /// Whether the hostile mirror was removed from mirrors.toml.
    hostile_is_out: AtomicBool,
}

/// Runs the simulation of a seed, and records all events if `traced`.
pub fn seed(seed: u64, traced: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let simulation = Simulation::draw(seed, traced);
        simulation.live().await;
        simulation.end().await;
        simulation.outcome()
    })
}

fn weather(chance: &Chance) -> Weather {
    let often = |of: u64| if chance.once_in(3) { 0 } else { of * (1 + chance.below(8)) };
    if chance.once_in(5) {
        return Weather { rot: often(3), lost_head: often(3), ..Weather::default() };
    }
    Weather {
        fails: often(30),
        answer_lost: often(60),
        late: often(80),
        hangs: often(150),
        half_written: often(40),
        cut_listing: often(8),
        old_answer: often(100),
        old_public: often(4),
        crash: often(150),
        sleep: often(60),
        sleep_at_removal: often(4),
        rot: often(4),
        lost_head: often(6),
        away: often(4),
    }
}

/// A directory in memory if possible, so that a run does not wait for the disk.
fn home() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a directory")
}

impl Simulation {
    fn draw(seed: u64, traced: bool) -> Self {
        let chance = Chance::new(seed);
        let count = 1 + chance.below(4) as usize;
        let hostile = (count > 1 && chance.once_in(2)).then(|| chance.below(count as u64) as usize);
        let mirrors = (0..count).map(|i| Arc::new(Mirror::new(i, hostile == Some(i), chance.once_in(3)))).collect();
        let mut checker = Checker::new(KEY.1.clone());
        let weather = weather(&chance);
        let machines = 1 + chance.below(3) as usize;
        let off = |chance: &Chance| match chance.below(6) {
            0 => chance.below(20 * 365 * 86_400) as i64,
            1 => -(chance.below(20 * 365 * 86_400) as i64),
            _ => 0,
        };
        let clocks: Vec<i64> = (0..machines).map(|_| off(&chance)).collect();
        checker.clocks_are_right = clocks.iter().all(|off| *off == 0);
        let homes = (0..machines).map(|_| home()).collect();
        let have_state: Vec<bool> = (0..machines).map(|_| !chance.once_in(3)).collect();
        let images = ["os", "web"].iter().take(1 + chance.below(2) as usize);
        let images = images.map(|name| name.parse().expect("a name")).collect();
        let world = Arc::new(World::new(chance, mirrors, checker, weather, traced));
        let machine = |(i, off): (usize, &i64)| Arc::new(Machine::new(i, Arc::clone(&world), *off, have_state[i]));
        let machines = clocks.iter().enumerate().map(machine).collect();
        Self { world, machines, homes, operations: AtomicU64::new(0), images, hostile_is_out: AtomicBool::new(false) }
    }

    /// All machines run operations, with faults.
    async fn live(&self) {
        let lives = self.machines.iter().map(|machine| self.live_on(machine));
        futures_util::future::join_all(lives).await;
    }

    async fn live_on(&self, machine: &Arc<Machine>) {
        let chance = &self.world.chance;
        for _ in 0..2 + chance.below(5) {
            let pause = match chance.below(3) {
                0 => chance.below(30),
                1 => chance.below(4000),
                _ => chance.below(12 * 86_400),
            };
            self.pause(Duration::from_secs(pause)).await;
            self.befall();
            self.operate(machine).await;
            if !self.world.checker.lock().unwrap().violations.is_empty() {
                return;
            }
        }
    }

    /// Waits between two operations. The pause often ends soon after another machine is suspended at
    /// work, so that this machine changes the mirrors before the other one resumes.
    async fn pause(&self, pause: Duration) {
        let (chance, mut until) = (&self.world.chance, Instant::now() + pause);
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(until) => return,
                () = self.world.slept.notified() => {
                    if chance.once_in(2) {
                        until = until.min(Instant::now() + Duration::from_secs(chance.below(60)));
                    }
                }
            }
        }
    }

    /// Faults of the mirrors themselves.
    fn befall(&self) {
        let (world, chance, weather) = (&self.world, &self.world.chance, self.world.weather());
        for mirror in world.mirrors.iter().filter(|mirror| !mirror.is_hostile) {
            mirror.is_away.store(chance.once_in(weather.away), Relaxed);
            if chance.once_in(weather.rot) {
                let may_rot = |path: &RepoPath| {
                    path.is_update() || matches!(path.kind(), Kind::Block(_) | Kind::Index(..) | Kind::Delta(_))
                };
                damage(world, mirror, may_rot);
            }
            if chance.once_in(weather.lost_head) {
                lose_head(world, mirror);
            }
        }
    }

    /// Runs one operation of one machine, in a new process.
    async fn operate(&self, machine: &Arc<Machine>) {
        machine.begin();
        self.operations.fetch_add(1, Relaxed);
        let chance = &self.world.chance;
        let image = self.images[chance.below(self.images.len() as u64) as usize].clone();
        let what = chance.below(12);
        *machine.grace_days.lock().unwrap() = None;
        let operation = async {
            match what {
                0..=4 => self.publish(machine, &image, 1 + chance.below(4), false).await,
                5 | 6 => self.sync(machine).await,
                7 => self.rollback(machine, &image).await,
                8..=10 => self.gc(machine, Vec::new(), Vec::new()).await,
                _ => self.verify(machine, None).await,
            }
        };
        self.world.note(format_args!("m{} begins {what} of {image}", machine.number));
        tokio::select! {
            biased;
            () = machine.crashed.notified() => {}
            done = operation => self.world.note(format_args!("m{} ends: {done:?}", machine.number)),
        }
        machine.process.fetch_add(1, Relaxed);
    }

    fn repository(&self, machine: &Arc<Machine>) -> Repository {
        let home = self.homes[machine.number].path();
        let keyring = Keyring { text: Some(KEY.0.clone()), ..Keyring::default() };
        let listed = self.world.mirrors.iter().filter(|m| !m.is_hostile || !self.hostile_is_out.load(Relaxed));
        let toml = listed.map(|m| format!("[[mirror]]\nname = \"m{0}\"\nwrite = \"./m{0}\"\n", m.place));
        let mirrors = Mirrors::parse(&toml.collect::<String>()).expect("mirrors");
        let mut repository = Repository::new(mirrors, home.to_owned(), Some(keyring));
        repository.memory = if machine.has_state { Memory::below(Some(home)) } else { Memory::default() };
        repository.patience = Duration::from_secs(600);
        repository.host = Arc::clone(machine) as Arc<dyn Host>;
        repository.connect = Arc::new(Network(Arc::clone(machine)));
        repository
    }

    fn watch(&self) -> Watch {
        Watch::silent()
    }

    /// Publishes contents number `contents` of an image.
    async fn publish(&self, machine: &Arc<Machine>, image: &Name, contents: u64, first: bool) -> Result<String, Error> {
        let mut repository = self.repository(machine);
        repository.first = first;
        let path = self.image(machine, image, contents);
        let options = PublishOptions {
            image: path,
            name: image.clone(),
            profile: None,
            split: Some(Rule::fixed(4096).expect("a rule")),
            split_first: None,
            codec: Codec::Zlib(1),
            deltas: DeltaOptions { versions: self.world.chance.below(3) as usize, bases: Vec::new() },
            label: None,
            boot: None,
            jobs: 1,
            force: false,
            as_it_is: true,
            zero_free: false,
            whole_sha256: false,
            tree: None,
            spool_directory: self.homes[machine.number].path().to_owned(),
            spool_max_bytes: 1 << 20,
        };
        let report = publish::publish(&repository, &options, &self.watch()).await?;
        Ok(summary(&report))
    }

    async fn sync(&self, machine: &Arc<Machine>) -> Result<String, Error> {
        let repository = self.repository(machine);
        let policy = self.policy(&repository);
        let report = publish::sync(&repository, &SyncOptions { images: Vec::new(), policy }, &self.watch()).await?;
        Ok(format!("{:?}, skipped {:?}", report.images.iter().map(summary).collect::<Vec<_>>(), report.skipped))
    }

    fn policy(&self, repository: &Repository) -> TrustPolicy {
        TrustPolicy::Known(repository.keyring.as_ref().map(Keyring::known_keys).unwrap_or_default())
    }

    async fn rollback(&self, machine: &Arc<Machine>, image: &Name) -> Result<String, Error> {
        let version = Version::new(1 + self.world.chance.below(4)).expect("a version");
        let options = RollbackOptions { name: image.clone(), version, label: None };
        let report = publish::rollback(&self.repository(machine), &options, &self.watch()).await?;
        Ok(format!("{image} {}", report.version))
    }

    async fn gc(&self, machine: &Arc<Machine>, images: Vec<Name>, retire: Vec<Version>) -> Result<String, Error> {
        let chance = &self.world.chance;
        let grace_days = if chance.once_in(4) { 0 } else { 7 };
        let keep = if retire.is_empty() { 1 + chance.below(2) as usize } else { usize::MAX };
        *machine.grace_days.lock().unwrap() = Some(grace_days);
        let options = GcOptions { images, keep, keep_days: 0, retire, grace_days, more_than_half: true };
        let report = publish::gc(&self.repository(machine), &options, &self.watch()).await?;
        let retired: Vec<String> =
            report.marked.iter().map(|r| format!("{} {:?} {:?}", r.image, r.retired, r.skipped)).collect();
        Ok(format!("retired {retired:?}, removed {:?}, {} blocks", report.swept.versions, report.swept.blocks))
    }

    async fn verify(&self, machine: &Arc<Machine>, seeds: Option<Vec<PathBuf>>) -> Result<String, Error> {
        let repository = self.repository(machine);
        let policy = self.policy(&repository);
        let options = VerifyOptions {
            only: Vec::new(),
            images: Vec::new(),
            policy,
            deep: true,
            sample: 4,
            repair: true,
            seeds: seeds.unwrap_or_default(),
        };
        let report = publish::verify(&repository, &options, &self.watch()).await?;
        let left: Vec<String> =
            report.remaining().map(|p| format!("{} {:?} {}: {}", p.mirror, p.kind, p.path, p.what)).collect();
        Ok(format!("{} problems, left {left:?}", report.problems.len()))
    }

    /// Without further faults, rerunning the operations must converge to one state.
    async fn end(&self) {
        if !self.world.checker.lock().unwrap().violations.is_empty() {
            return;
        }
        self.world.note("the weather clears up");
        *self.world.weather.lock().unwrap() = Weather::default();
        self.world.mirrors.iter().for_each(|mirror| mirror.is_away.store(false, Relaxed));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let machine = &self.machines[0];
        self.mend(machine).await;
        for image in &self.images {
            for _ in 0..2 {
                let is_done = self.at_the_end(machine, self.publish(machine, image, 9, true)).await;
                // If only a hostile mirror has a head, and that head is damaged, no publish succeeds
                // until the mirror is removed.
                self.hostile_is_out.store(!is_done, Relaxed);
            }
        }
        let honest: Vec<_> = self.world.mirrors.iter().filter(|mirror| !mirror.is_hostile).collect();
        for image in &self.images {
            let heads: Vec<_> = honest.iter().map(|m| m.get(&RepoPath::head(image)).map(|o| o.bytes)).collect();
            if heads.iter().any(|head| head.is_none() || *head != heads[0]) {
                let what = format!("{image}: the honest mirrors do not end in one state");
                self.world.checker.lock().unwrap().violations.push(what);
            }
        }
    }

    /// Repairs damaged blocks, either by publishing the images that contain them again or by verify with
    /// these images as seeds. A version with a lost index is retired.
    async fn mend(&self, machine: &Arc<Machine>) {
        let rotten = self.world.checker.lock().unwrap().excused.clone();
        let rotten: BTreeSet<RepoPath> = rotten.into_iter().map(|(_, path)| path).collect();
        if rotten.is_empty() {
            return;
        }
        for image in &self.images {
            let of_image = |kind| match kind {
                Kind::Index(of, version, _) if of == *image => Some(version),
                _ => None,
            };
            let lost = || -> Vec<Version> {
                let named = self.world.checker.lock().unwrap().named(&self.world, image);
                let versions = rotten.iter().filter_map(|path| of_image(path.kind()));
                versions.filter(|version| named.contains(version)).collect()
            };
            if !lost().is_empty() {
                self.at_the_end(machine, self.publish(machine, image, 8, true)).await;
                let retire = lost();
                if !retire.is_empty() {
                    self.at_the_end(machine, self.gc(machine, vec![image.clone()], retire)).await;
                }
            }
        }
        let all = self.images.iter().flat_map(|image| (1..=4).map(move |contents| (image, contents)));
        let with_rotten = all.filter(|(image, contents)| {
            blocks(image, *contents).iter().any(|block| rotten.contains(&RepoPath::block(&digests(block).0)))
        });
        if self.world.chance.once_in(2) {
            let seeds = with_rotten.map(|(image, contents)| self.image(machine, image, contents)).collect();
            self.at_the_end(machine, self.verify(machine, Some(seeds))).await;
        } else {
            for (image, contents) in with_rotten {
                self.at_the_end(machine, self.publish(machine, image, contents, true)).await;
            }
        }
    }

    async fn at_the_end(&self, machine: &Machine, operation: impl Future<Output = Result<String, Error>>) -> bool {
        machine.begin();
        let done = operation.await;
        self.world.note(format_args!("m{} at the end: {done:?}", machine.number));
        done.is_ok()
    }

    /// The image file of contents number `contents`.
    fn image(&self, machine: &Machine, image: &Name, contents: u64) -> PathBuf {
        let path = self.homes[machine.number].path().join(format!("{image}-{contents}.img"));
        if !path.exists() {
            std::fs::write(&path, blocks(image, contents).concat()).expect("an image");
        }
        path
    }

    fn outcome(&self) -> Outcome {
        let checker = self.world.checker.lock().unwrap();
        Outcome {
            violations: checker.violations.clone(),
            operations: self.operations.load(Relaxed),
            calls: self.world.calls.load(Relaxed),
            faults: self.world.faults.load(Relaxed),
            checks: checker.checks,
            trace: self.world.trace(),
        }
    }
}

fn summary(report: &Report) -> String {
    let behind: Vec<String> =
        report.behind().map(|m| format!("{}: {}", m.name, m.why.as_deref().unwrap_or(""))).collect();
    format!("{} {} {:?}, behind {behind:?}", report.image, report.version, report.outcome)
}

/// Three blocks, some of them shared between contents and images. The last one has most of its bytes in common with
/// that of other contents, so that it is worth a delta.
fn blocks(image: &Name, contents: u64) -> [Vec<u8>; 3] {
    let of_image = image.as_str().len() as u64;
    [[1; 2], [contents % 3; 2], [of_image, contents * 1000 + of_image]].map(|[most, rest]| {
        let (most, rest) = (Chance::new(most), Chance::new(rest));
        (0..512).flat_map(|i| if i < 384 { &most } else { &rest }.next().to_le_bytes()).collect()
    })
}

fn damage(world: &World, mirror: &Mirror, wanted: impl Fn(&RepoPath) -> bool) {
    let paths: Vec<RepoPath> = mirror.paths().into_iter().filter(wanted).collect();
    if paths.is_empty() {
        return;
    }
    let path = &paths[world.chance.below(paths.len() as u64) as usize];
    let Some(object) = mirror.get(path) else { return };
    let mut bytes = object.bytes.to_vec();
    let at = world.chance.below(bytes.len() as u64) as usize;
    bytes[at] ^= 1 << world.chance.below(8);
    world.fault(format_args!("{path} rots on m{}", mirror.place));
    world.checker.lock().unwrap().excused.insert((mirror.place, path.clone()));
    let object = world.object(bytes.into());
    mirror.objects.lock().unwrap().insert(path.clone(), object);
}

fn lose_head(world: &World, mirror: &Mirror) {
    let heads: Vec<RepoPath> = mirror.paths().into_iter().filter(|path| matches!(path.kind(), Kind::Head(_))).collect();
    if let Some(path) = heads.first() {
        world.fault(format_args!("{path} is lost on m{}", mirror.place));
        mirror.objects.lock().unwrap().remove(path);
    }
}
