//! How long to wait before trying again: pure arithmetic, the chance is handed in.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(10);

/// The wait after failure number `failures` (1 for the first): doubling from a quarter of a second to ten seconds, and
/// anywhere from half of that to all of it as `chance` (0 to 1) has it, so that many who failed together do not come back
/// together.
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
