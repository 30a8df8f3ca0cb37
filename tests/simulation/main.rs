//! Simulation: the real publish, sync, rollback, gc and verify over mirrors in memory, with faults,
//! crashes, suspended machines, wrong clocks and a hostile mirror. Each run is drawn from a seed and
//! replays exactly: `HFL_SIMULATE=SEED` shows one run, `HFL_SEEDS=FROM..TO` runs only these seeds.

mod check;
mod hostile;
mod run;
mod store;
mod world;

use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use hfl::weaken::{self, Weakness};

/// Number of seeds within which the loss of a protection must be detected.
const NOTICED_WITHIN: u64 = 20_000;

/// Whether the long form of the tests is enabled.
fn full() -> bool {
    std::env::var_os("HFL_FULL").is_some()
}

/// Totals over many seeds.
#[derive(Default)]
struct Sum {
    seeds: u64,
    operations: u64,
    calls: u64,
    faults: u64,
    checks: u64,
    /// The smallest seed with a violation, and the violation.
    broken: Option<(u64, String)>,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: &run::Outcome) {
        self.seeds += 1;
        self.operations += outcome.operations;
        self.calls += outcome.calls;
        self.faults += outcome.faults;
        self.checks += outcome.checks;
        if let Some(what) = outcome.violations.first()
            && self.broken.as_ref().is_none_or(|(before, _)| seed < *before)
        {
            self.broken = Some((seed, what.clone()));
        }
    }
}

/// A protection is switched off for the whole process, so only one test at a time may run seeds.
static TURN: Mutex<()> = Mutex::new(());

/// The requested seeds, or the first `count`.
fn wanted(count: u64) -> Range<u64> {
    let Ok(text) = std::env::var("HFL_SEEDS") else { return 0..count };
    let range = text.split_once("..").unwrap_or(("0", &text));
    let number = |text: &str| text.parse().expect("HFL_SEEDS=TO or HFL_SEEDS=FROM..TO");
    number(range.0)..number(range.1)
}

/// Runs seeds in order until one has a violation. Each seed runs on one thread, as many at once as there
/// are processors.
fn seeds(range: Range<u64>, weakness: Option<Weakness>) -> Sum {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    weaken::switch_off(weakness);
    let (next, sum) = (AtomicU64::new(range.start), Mutex::new(Sum::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= range.end || sum.lock().unwrap().broken.is_some() {
                return;
            }
            let outcome = run::seed(seed, false);
            sum.lock().unwrap().add(seed, &outcome);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    weaken::switch_off(None);
    sum.into_inner().unwrap()
}

#[test]
fn every_seed_keeps_the_promises() {
    if let Some(seed) = std::env::var("HFL_SIMULATE").ok().and_then(|seed| seed.parse().ok()) {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = run::seed(seed, true);
        outcome.trace.iter().for_each(|line| println!("{line}"));
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        return;
    }
    let started = Instant::now();
    let sum = seeds(wanted(if full() { 500_000 } else { 5000 }), None);
    if let Some((seed, what)) = sum.broken {
        panic!("seed {seed}: {what}; HFL_SIMULATE={seed} shows it");
    }
    println!(
        "{} seeds in {:.0?}: {} operations, {} calls of stores, {} faults, {} checks of a mirror",
        sum.seeds,
        started.elapsed(),
        sum.operations,
        sum.calls,
        sum.faults,
        sum.checks
    );
}

/// Whether the long form is enabled; skips the test otherwise.
fn is_long() -> bool {
    if !full() {
        println!("skipped: HFL_FULL is not set");
    }
    full()
}

/// Asserts that the simulation detects the loss of a protection. It proves nothing about protections
/// whose loss it misses.
fn is_noticed(weakness: Weakness) {
    let sum = seeds(0..NOTICED_WITHIN, Some(weakness));
    let (seed, what) = sum.broken.unwrap_or_else(|| panic!("{NOTICED_WITHIN} seeds do not miss {weakness:?}"));
    println!("without {weakness:?}: seed {seed}: {what}");
}

#[test]
fn records_that_nobody_signed_would_be_noticed() {
    is_noticed(Weakness::Records);
}

#[test]
fn an_older_record_that_counts_would_be_noticed() {
    if is_long() {
        is_noticed(Weakness::LatestRecord);
    }
}

#[test]
fn a_lock_that_is_not_certain_would_be_noticed() {
    if is_long() {
        is_noticed(Weakness::Certainty);
    }
}

#[test]
fn numbers_that_are_used_twice_would_be_noticed() {
    is_noticed(Weakness::Numbers);
}

#[test]
fn versions_that_leave_the_history_would_be_noticed() {
    is_noticed(Weakness::History);
}

#[test]
fn damaged_blocks_that_stay_would_be_noticed() {
    is_noticed(Weakness::Remake);
}

#[test]
fn half_an_object_under_its_name_would_be_noticed() {
    is_noticed(Weakness::Arrivals);
}

#[test]
fn a_seed_replays_exactly() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for seed in [1, 2, 3, 5, 77, 1234] {
        let (one, two) = (run::seed(seed, true), run::seed(seed, true));
        assert!(one.trace.len() > 10);
        assert_eq!(one.trace.len(), two.trace.len(), "seed {seed}");
        for (i, (one, two)) in one.trace.iter().zip(&two.trace).enumerate() {
            assert_eq!(one, two, "seed {seed}, line {i}");
        }
    }
}
