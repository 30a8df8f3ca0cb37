//! `gc`: old versions go, in two steps. Marking: the heads stop naming them, a record of each is kept. Sweeping: once a
//! record is older than the grace period, the blocks go that only such versions named.
//!
//! Nothing is ever judged by a listing alone, nor by one image or one mirror: what lives is what any believed head of any
//! image on any mirror names, and a head that is missing or not believed stops the sweep. Only what a retired version named
//! can go, never what merely nobody names.

mod mark;
mod roots;
mod sweep;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::error::Error;
use super::keyring::Keyring;
use super::mirror;
use super::options::Work;
use super::progress::{Event, Progress};
use super::session::Watch;
use super::sync;
use crate::keys::PublicKey;
use crate::name::Name;

pub use mark::Marked;
pub use sweep::{Pending, Swept, SweptMirror};

/// What may go.
#[derive(Debug, Clone)]
pub struct GcOptions {
    /// The repository.
    pub work: Work,
    /// The images whose old versions are retired; none means all whose secret key is at hand.
    pub images: Vec<Name>,
    /// How many of the newest versions stay, at least 1.
    pub keep: usize,
    /// Versions younger than so many days stay, too.
    pub keep_days: u32,
    /// Days between mark and sweep: as long as a client may go on with a head that it has read.
    pub grace_days: u32,
    /// Sweeps even if more than half of all blocks would go.
    pub more_than_half: bool,
}

/// What a collection did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GcReport {
    /// The images whose heads were looked at.
    pub marked: Vec<Marked>,
    /// What went, or would go.
    pub swept: Swept,
}

/// Retires old versions and removes what was retired long enough ago.
///
/// # Errors
/// Anything that leaves a doubt about what lives: a mirror that cannot be reached, a head that is not believed, an index that
/// cannot be read. Then nothing is removed.
pub async fn gc(options: GcOptions, progress: Arc<dyn Progress>, cancel: Arc<AtomicBool>) -> Result<GcReport, Error> {
    let watch = Watch { progress, cancel };
    let mut report = GcReport::default();
    let all = sync::images(&options.work).await?;
    let wanted = |name: &&Name| options.images.is_empty() || options.images.contains(name);
    for name in all.iter().filter(wanted) {
        watch.progress.event(Event::Step("marking old versions"));
        report.marked.push(mark::mark(&options, name, &watch).await?);
    }
    watch.progress.event(Event::Step("looking for what nobody names any more"));
    let mut mirrors = mirror::open_all(&options.work.mirrors, &options.work.relative_to).await?;
    if !options.work.dry_run {
        mirror::lock_all(&mut mirrors).await?;
    }
    let keys = keys(&options.work, &all);
    let swept = sweep::sweep(&options, &mirrors, keys.as_deref(), &watch).await;
    mirror::unlock_all(&mut mirrors).await;
    report.swept = swept?;
    Ok(report)
}

/// The keys whose heads are believed; `None` believes anyone, in a repository without signatures.
fn keys(work: &Work, images: &std::collections::BTreeSet<Name>) -> Option<Vec<PublicKey>> {
    let keyring: &Keyring = work.keyring.as_ref()?;
    let mut keys = keyring.public_keys();
    let secret = images.iter().filter_map(|name| keyring.find_kept(name).ok());
    keys.extend(secret.map(|found| found.key.public().clone()));
    Some(keys)
}
