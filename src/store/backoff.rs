//! Exponential backoff as pure arithmetic; the caller supplies the randomness.

use std::time::Duration;

/// The first wait, before jitter.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait, before jitter.
const LONGEST: Duration = Duration::from_secs(10);

/// The wait after failure number `failures` (1 for the first): doubles from 0.25 s to 10 s. `chance` (0 to 1) scales it
/// to between half and all of that, so that clients that failed together do not all retry together.
pub fn wait(failures: u32, chance: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST).mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_and_stays_within_its_bounds() {
        let all = |chance| (1..=8).map(|n| wait(n, chance).as_millis()).collect::<Vec<_>>();
        assert_eq!(all(1.0), [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert_eq!(all(0.0), [125, 250, 500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(wait(u32::MAX, 7.0), LONGEST);
    }
}
