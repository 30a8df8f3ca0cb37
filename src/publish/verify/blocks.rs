//! Checks the blocks and deltas of a mirror: compares them with a listing, probes for unlisted ones, and reads a sample
//! or all.

use futures_util::{StreamExt as _, stream};

use super::expected::ExpectedBlocks;
use super::findings::Findings;
use super::run::Run;
use super::stored::Stored;
use crate::error::Error;
use crate::progress::Event;
use crate::repo::survey::{Flaw, Inventory, MirrorView, ProblemKind};

/// Expected blocks and deltas, classified by a listing.
#[derive(Debug, Default)]
pub struct Sorted {
    /// Listed with the published size.
    pub likely: Vec<Stored>,
    /// Listed with another size: damaged, or the same bytes compressed by another library.
    pub odd: Vec<Stored>,
    /// Not listed.
    pub unlisted: Vec<Stored>,
}

impl Sorted {
    /// Compares the expected blocks with a listing.
    pub fn by(rows: Vec<Stored>, listing: &Inventory) -> Self {
        let mut sorted = Self::default();
        for row in rows {
            match row.listed(listing) {
                Some(bytes) => sorted.put(row, bytes),
                None => sorted.unlisted.push(row),
            }
        }
        sorted
    }

    fn put(&mut self, row: Stored, bytes: u64) {
        if bytes == row.bytes() { self.likely.push(row) } else { self.odd.push(row) }
    }
}

/// Checks the blocks and deltas that `mirror` must hold; returns up to `sample` that were read and are intact.
///
/// # Errors
/// The mirror became unreachable.
pub async fn check(
    run: &Run,
    mirror: usize,
    (look, expected): (&MirrorView, &ExpectedBlocks),
    findings: &mut Findings,
) -> Result<Vec<Stored>, Error> {
    let mut sorted = Sorted::by(expected.of_mirror(mirror), &look.inventory);
    let rows = sorted.likely.len() + sorted.odd.len() + sorted.unlisted.len();
    findings.checked.objects += rows as u64;
    ask(run, mirror, &mut sorted, findings).await?;
    let host = &run.repository.config.host;
    sorted.likely.sort_by_cached_key(|_| host.random());
    let sample = run.options.sample;
    let likely = if run.options.deep { &sorted.likely[..] } else { &sorted.likely[..sample.min(sorted.likely.len())] };
    let mut right = read(run, mirror, likely, findings).await?;
    right.truncate(sample);
    read(run, mirror, &sorted.odd, findings).await?;
    Ok(right)
}

/// Probes for what is not listed: a listing may be truncated or stale.
async fn ask(run: &Run, mirror: usize, sorted: &mut Sorted, findings: &mut Findings) -> Result<(), Error> {
    let store = &*run.mirrors()[mirror].store;
    let sizes = stream::iter(std::mem::take(&mut sorted.unlisted));
    let sizes = sizes.map(|row| async move { (row, store.size(&row.path()).await) });
    let mut sizes = sizes.buffer_unordered(run.jobs(mirror));
    while let Some((row, size)) = sizes.next().await {
        let flaw = match size {
            Ok(Some(bytes)) => {
                findings.checked.unlisted += 1;
                sorted.put(row, bytes);
                continue;
            }
            Ok(None) => Flaw::new(ProblemKind::Missing, "not there"),
            Err(e) => Flaw::of(e).map_err(Error::from)?,
        };
        findings.add([row.finding(flaw)]);
    }
    Ok(())
}

/// Reads blocks and deltas in full; returns the intact ones.
async fn read(run: &Run, mirror: usize, rows: &[Stored], findings: &mut Findings) -> Result<Vec<Stored>, Error> {
    let (store, name) = (&*run.mirrors()[mirror].store, run.mirrors()[mirror].name());
    run.tell(Event::ToCheck { mirror: name, bytes: rows.iter().map(Stored::bytes).sum() });
    let reads = stream::iter(rows.to_vec()).map(|row| async move {
        let _room = run.budget.room(row.max_bytes()).await;
        let examined = row.read(store).await;
        (row, examined.map(|done| done.map(|file| file.len() as u64)))
    });
    let mut reads = reads.buffer_unordered(run.jobs(mirror));
    let mut right = Vec::new();
    while let Some((row, examined)) = reads.next().await {
        match examined? {
            Ok(read) => {
                findings.read(read);
                right.push(row);
            }
            Err(flaw) => findings.add([row.finding(flaw)]),
        }
        run.tell(Event::Checked { mirror: name, bytes: row.bytes() });
    }
    Ok(right)
}
