//! Checks the blocks of a mirror: compares them with a listing, probes for unlisted ones, and reads a sample or all.

use futures_util::{StreamExt as _, stream};

use super::expected::ExpectedBlocks;
use super::findings::{Finding, Findings, Object};
use super::objects;
use super::run::Run;
use crate::error::Error;
use crate::format::block::BlockRow;
use crate::format::block::zlib_max_bytes;
use crate::format::layout::RepoPath;
use crate::progress::Event;
use crate::repo::survey::{BlockListing, Flaw, MirrorView, ProblemKind};

/// Expected blocks, classified by a listing.
#[derive(Debug, Default)]
pub struct Sorted {
    /// Listed with the published size.
    pub likely: Vec<BlockRow>,
    /// Listed with another size: damaged, or the same bytes compressed by another library.
    pub odd: Vec<BlockRow>,
    /// Not listed.
    pub unlisted: Vec<BlockRow>,
}

impl Sorted {
    /// Compares the expected blocks with a listing.
    pub fn by(rows: Vec<BlockRow>, listing: &BlockListing) -> Self {
        let mut sorted = Self::default();
        for row in rows {
            match listing.bytes(&row.id) {
                Some(bytes) => sorted.put(row, bytes),
                None => sorted.unlisted.push(row),
            }
        }
        sorted
    }

    fn put(&mut self, row: BlockRow, bytes: u64) {
        if bytes == u64::from(row.zlib_bytes) { self.likely.push(row) } else { self.odd.push(row) }
    }
}

/// Checks the blocks that `mirror` must hold; returns up to `sample` blocks that were read and are intact.
///
/// # Errors
/// The mirror became unreachable.
pub async fn check(
    run: &Run,
    mirror: usize,
    (look, expected): (&MirrorView, &ExpectedBlocks),
    findings: &mut Findings,
) -> Result<Vec<BlockRow>, Error> {
    let mut sorted = Sorted::by(expected.blocks(mirror), &look.inventory.blocks);
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

/// Probes for the unlisted blocks: a listing may be truncated or stale.
async fn ask(run: &Run, mirror: usize, sorted: &mut Sorted, findings: &mut Findings) -> Result<(), Error> {
    let store = &*run.mirrors()[mirror].store;
    let sizes = stream::iter(std::mem::take(&mut sorted.unlisted));
    let sizes = sizes.map(|row| async move { (row, store.size(&RepoPath::block(&row.id)).await) });
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
        findings.add([finding(&row, flaw)]);
    }
    Ok(())
}

/// Reads blocks in full; returns the intact ones.
async fn read(run: &Run, mirror: usize, rows: &[BlockRow], findings: &mut Findings) -> Result<Vec<BlockRow>, Error> {
    let (store, name) = (&*run.mirrors()[mirror].store, run.mirrors()[mirror].name());
    let bytes = |row: &BlockRow| u64::from(row.zlib_bytes);
    run.tell(Event::ToCheck { mirror: name, bytes: rows.iter().map(bytes).sum() });
    let reads = stream::iter(rows.to_vec()).map(|row| async move {
        let _room = run.budget.room(zlib_max_bytes(row.bytes)).await;
        let examined = objects::block(store, &row).await;
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
            Err(flaw) => findings.add([finding(&row, flaw)]),
        }
        run.tell(Event::Checked { mirror: name, bytes: bytes(&row) });
    }
    Ok(right)
}

fn finding(row: &BlockRow, flaw: Flaw) -> Finding {
    Finding::stored(RepoPath::block(&row.id), flaw, Some(Object::Block(*row)))
}
