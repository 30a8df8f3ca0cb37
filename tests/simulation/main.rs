//! A simulation that tries everything: the real publish, sync, rollback, gc and verify over mirrors in memory, with faults,
//! crashes, machines that sleep, clocks that are wrong and a mirror whose owner is hostile. Each run is drawn from a seed and
//! replays exactly: `HFL_SIMULATE=SEED` shows one.

mod check;
mod hostile;
mod run;
mod store;
mod world;

use std::time::Instant;

/// True where the long form of the proof was asked for.
fn full() -> bool {
    std::env::var_os("HFL_FULL").is_some()
}

/// What many seeds came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    operations: u64,
    calls: u64,
    faults: u64,
    checks: u64,
}

impl Sum {
    fn add(&mut self, outcome: &run::Outcome) {
        self.seeds += 1;
        self.operations += outcome.operations;
        self.calls += outcome.calls;
        self.faults += outcome.faults;
        self.checks += outcome.checks;
    }
}

#[test]
fn every_seed_keeps_the_promises() {
    if let Some(seed) = std::env::var("HFL_SIMULATE").ok().and_then(|seed| seed.parse().ok()) {
        let outcome = run::seed(seed);
        outcome.trace.iter().for_each(|line| println!("{line}"));
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        return;
    }
    let seeds = std::env::var("HFL_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let seeds = seeds.unwrap_or(if full() { 500_000 } else { 5000 });
    let (started, mut sum) = (Instant::now(), Sum::default());
    for seed in 0..seeds {
        let outcome = run::seed(seed);
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}: HFL_SIMULATE={seed} shows it");
        sum.add(&outcome);
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

#[test]
fn a_seed_replays_exactly() {
    for seed in [1, 2, 3, 77, 1234] {
        let (one, two) = (run::seed(seed), run::seed(seed));
        assert_eq!(one.trace.len(), two.trace.len(), "seed {seed}");
        for (i, (one, two)) in one.trace.iter().zip(&two.trace).enumerate() {
            assert_eq!(one, two, "seed {seed}, line {i}");
        }
    }
}
