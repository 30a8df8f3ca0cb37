//! The simulated world: mirrors in memory, machines with their own clocks, and faults. Everything is
//! drawn from one seed, on one thread, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hfl::format::layout::RepoPath;
use hfl::format::time::Timestamp;
use hfl::system::host::Host;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::check::Checker;

/// Wall-clock time at the start of every run.
pub const EPOCH: u64 = 1_790_000_000;

/// A pseudo-random number generator (splitmix64).
#[derive(Debug)]
pub struct Chance(AtomicU64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub fn next(&self) -> u64 {
        let state = self.0.load(Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.store(state, Relaxed);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True with probability 1/`of`; never for 0.
    pub fn once_in(&self, of: u64) -> bool {
        of > 0 && self.below(of) == 0
    }
}

/// An object with a unique number.
#[derive(Debug, Clone)]
pub struct Object {
    pub bytes: Bytes,
    pub number: u64,
}

pub type Objects = BTreeMap<RepoPath, Object>;

#[derive(Debug)]
pub struct Mirror {
    pub place: usize,
    pub objects: Mutex<Objects>,
    /// Some earlier states.
    pub past: Mutex<Vec<Objects>>,
    /// Whether its owner is hostile and returns arbitrary data.
    pub is_hostile: bool,
    /// Whether it can be read at a public URL.
    pub is_public: bool,
    /// Whether it is unreachable.
    pub is_away: AtomicBool,
}

impl Mirror {
    pub fn new(place: usize, is_hostile: bool, is_public: bool) -> Self {
        let (objects, past, is_away) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Self { place, objects, past, is_hostile, is_public, is_away }
    }

    pub fn get(&self, path: &RepoPath) -> Option<Object> {
        self.objects.lock().unwrap().get(path).cloned()
    }

    pub fn paths(&self) -> BTreeSet<RepoPath> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }
}

/// Frequency of each fault: once in so many calls, 0 for never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    pub fails: u64,
    pub answer_lost: u64,
    pub late: u64,
    pub hangs: u64,
    pub half_written: u64,
    pub cut_listing: u64,
    /// An older state is returned: by the mirror itself, or by a cache between its public URL and the
    /// reader.
    pub old_answer: u64,
    pub old_public: u64,
    pub crash: u64,
    pub sleep: u64,
    /// A machine is suspended right before it removes an object.
    pub sleep_at_removal: u64,
    /// The following faults occur once in so many pauses between operations.
    pub rot: u64,
    pub lost_head: u64,
    pub away: u64,
}

/// State shared by all machines.
#[derive(Debug)]
pub struct World {
    pub chance: Chance,
    pub mirrors: Vec<Arc<Mirror>>,
    pub checker: Mutex<Checker>,
    pub weather: Mutex<Weather>,
    pub calls: AtomicU64,
    pub faults: AtomicU64,
    /// Notifies that a machine was suspended at work.
    pub slept: Notify,
    numbers: AtomicU64,
    /// The recorded events, if tracing is on.
    trace: Option<Mutex<Vec<String>>>,
    pub started: Instant,
}

impl World {
    pub fn new(chance: Chance, mirrors: Vec<Arc<Mirror>>, checker: Checker, weather: Weather, is_traced: bool) -> Self {
        Self {
            chance,
            mirrors,
            checker: Mutex::new(checker),
            weather: Mutex::new(weather),
            calls: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            slept: Notify::new(),
            numbers: AtomicU64::new(0),
            trace: is_traced.then(Mutex::default),
            started: Instant::now(),
        }
    }

    pub fn note(&self, what: impl std::fmt::Display) {
        if let Some(trace) = &self.trace {
            let at = self.started.elapsed().as_secs_f64();
            trace.lock().unwrap().push(format!("{at:12.3} {what}"));
        }
    }

    /// All recorded events as text; empty unless tracing is on.
    pub fn trace(&self) -> Vec<String> {
        self.trace.as_ref().map(|trace| trace.lock().unwrap().clone()).unwrap_or_default()
    }

    pub fn object(&self, bytes: Bytes) -> Object {
        Object { bytes, number: self.numbers.fetch_add(1, Relaxed) }
    }

    pub fn weather(&self) -> Weather {
        *self.weather.lock().unwrap()
    }

    pub fn fault(&self, what: impl std::fmt::Display) {
        self.faults.fetch_add(1, Relaxed);
        self.note(format_args!("FAULT {what}"));
    }
}

/// A machine that runs hfl.
#[derive(Debug)]
pub struct Machine {
    pub number: usize,
    pub world: Arc<World>,
    /// Error of its clock, in seconds.
    pub clock_off: i64,
    /// Whether it records what it published.
    pub has_state: bool,
    /// End of its suspension.
    asleep: Mutex<Option<Instant>>,
    /// Number of the running process; calls of an ended process never return.
    pub process: AtomicU64,
    pub crashed: Notify,
    /// Whether something prevented this process from seeing the real state of a mirror.
    pub was_blind: AtomicBool,
    /// Mirrors whose lock this process took.
    pub locked: Mutex<BTreeSet<usize>>,
    /// Mirrors whose listing was incomplete for this process.
    pub cut_listings: Mutex<BTreeSet<usize>>,
    /// Grace period of the running gc, in days.
    pub grace_days: Mutex<Option<u32>>,
}

impl Machine {
    pub fn new(number: usize, world: Arc<World>, clock_off: i64, has_state: bool) -> Self {
        Self {
            number,
            world,
            clock_off,
            has_state,
            asleep: Mutex::default(),
            process: AtomicU64::new(0),
            crashed: Notify::new(),
            was_blind: AtomicBool::new(false),
            locked: Mutex::default(),
            cut_listings: Mutex::default(),
            grace_days: Mutex::default(),
        }
    }

    /// Returns when the machine is no longer suspended.
    pub async fn awake(&self) {
        loop {
            let until = *self.asleep.lock().unwrap();
            match until {
                Some(at) if at > Instant::now() => tokio::time::sleep_until(at).await,
                _ => return,
            }
        }
    }

    /// Starts a new process. Remaining calls of the previous one never return.
    pub fn begin(&self) {
        self.process.fetch_add(1, Relaxed);
        self.was_blind.store(false, Relaxed);
        self.locked.lock().unwrap().clear();
        self.cut_listings.lock().unwrap().clear();
    }

    /// Whether this process saw the real state of every mirror: it held all locks, so no other publisher
    /// was at work.
    pub fn saw_everything(&self) -> bool {
        let locked = self.locked.lock().unwrap();
        let honest = self.world.mirrors.iter().filter(|mirror| !mirror.is_hostile);
        !self.was_blind.load(Relaxed) && honest.map(|mirror| mirror.place).all(|place| locked.contains(&place))
    }

    pub fn fall_asleep(&self) {
        let seconds = 5 + self.world.chance.below(600);
        // Operations leave behind mirrors that take this much longer than others.
        self.was_blind.store(true, Relaxed);
        self.world.fault(format_args!("m{} sleeps {seconds} s", self.number));
        *self.asleep.lock().unwrap() = Some(Instant::now() + Duration::from_secs(seconds));
        self.world.slept.notify_waiters();
    }
}

impl Host for Machine {
    fn boot(&self) -> Duration {
        Duration::from_secs(1000) + self.world.started.elapsed()
    }

    fn now(&self) -> Timestamp {
        let elapsed = self.world.started.elapsed().as_secs();
        Timestamp::from_unix((EPOCH + elapsed).saturating_add_signed(self.clock_off))
    }

    fn random(&self) -> u64 {
        self.world.chance.next()
    }
}
