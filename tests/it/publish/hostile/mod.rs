//! A hostile mirror beside two honest ones. Before every operation, the owner of the hostile mirror replaces its file
//! tree: real formats with forged contents, whatever the honest mirrors ever published, files in place of directories.
//! The owner has none of our keys. Whatever the hostile mirror holds, the honest mirrors hold after each operation what
//! they hold in a repository without it.
//!
//! A failure prints its seed. `HFL_HOSTILE=SEED` replays that seed, step by step.

mod owner;
mod world;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{LazyLock, Mutex, OnceLock};
use std::time::{Duration, Instant};

use hfl::format::signing::SecretKey;

use self::owner::Owner;
use self::world::{Trees, World};
use crate::support::lab::{Random, check_mirror, full};

/// The number of scenarios. What the honest mirrors hold without a hostile mirror is computed once for each.
const SCENARIOS: usize = 48;
/// The number of seeds that run concurrently: each of them mostly waits for locks that it takes over.
const AT_ONCE: usize = 16;
/// The maximum time of an operation, and the maximum average time of a seed: the machine may be busy with other work.
const OPERATION_MAX: Duration = Duration::from_secs(60);
const SEED_MAX: Duration = Duration::from_secs(5);
/// Mirror names.
const HONEST: [&str; 2] = ["a", "b"];
const HOSTILE: &str = "c";

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

/// The files of the honest mirrors after each step of a scenario without a hostile mirror.
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

/// Totals of all seeds.
#[derive(Debug, Default)]
struct Sum {
    operations: AtomicU64,
    files: AtomicU64,
    longest_ms: AtomicU64,
}

/// Runs one seed. Returns how the honest mirrors differ from those of a run without the hostile mirror.
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

/// The hostile mirror's files and their sizes, for printing.
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
    let seeds = number("HFL_SEEDS").unwrap_or(if full() { 10_000 } else { 120 });
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
        for _ in 0..AT_ONCE {
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
