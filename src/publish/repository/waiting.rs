//! Waits until another publisher releases the mirrors, if the user asked for that.

use std::time::Duration;

use tokio::time::Instant;

use super::mirror::{self, OpenMirror};
use super::options::Repository;
use crate::error::{Error, ErrorKind};
use crate::progress::{Event, Progress, Silent};

/// The pause between two attempts: the first one, and the longest. It doubles each time.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Locks every mirror ([`mirror::lock_all`]); while another publisher holds them, tries again for as long as
/// [`Repository::wait`] says.
///
/// # Errors
/// Another publisher is still at work; then no mirror stays locked.
pub async fn lock_all(
    mirrors: &mut [OpenMirror],
    repository: &Repository,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let failed_before: Vec<_> = mirrors.iter().map(|mirror| mirror.failed.clone()).collect();
    let until = Instant::now() + repository.wait;
    let (mut pause, mut has_said) = (PAUSE_MIN, false);
    loop {
        let said: &dyn Progress = if has_said { &Silent } else { progress };
        let held = match mirror::lock_all(mirrors, &repository.host, said).await {
            Err(e) if e.kind() == ErrorKind::Conflict && !repository.wait.is_zero() => e,
            done => return done,
        };
        let now = Instant::now();
        let waited = humantime::format_duration(repository.wait);
        if now >= until {
            let advice = held.advice().map(str::to_owned);
            return Err(Error::new(held.kind(), format!("{held}; waited {waited} for it")).hint_if(advice));
        }
        if !has_said {
            progress.event(Event::Warning(&format!("{held}; waiting up to {waited} for it to end")));
            has_said = true;
        }
        tokio::time::sleep(spread(pause, repository.host.random()).min(until - now)).await;
        pause = (pause * 2).min(PAUSE_MAX);
        // A mirror that could not be reached may be there by now.
        mirrors.iter_mut().zip(&failed_before).for_each(|(mirror, failed)| mirror.failed = failed.clone());
    }
}

/// Three quarters to five quarters of a pause, so that publishers that wait do not all ask at once.
fn spread(pause: Duration, random: u64) -> Duration {
    pause * (75 + (random % 51) as u32) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_spread_by_a_quarter() {
        for random in 0..200 {
            let spread = spread(PAUSE_MAX, random);
            assert!(spread >= PAUSE_MAX * 3 / 4 && spread <= PAUSE_MAX * 5 / 4, "{spread:?}");
        }
    }
}
