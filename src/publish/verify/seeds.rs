//! Repairs blocks from seed images, even if no mirror has an intact copy any more.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::expected::ExpectedBlocks;
use super::findings::{Findings, Object};
use super::run::Run;
use crate::disk::input::Input;
use crate::error::Error;
use crate::format::block::{BlockRow, Codec};
use crate::format::digest::BlockId;
use crate::publish::pipeline::image::{self, Reading};
use crate::publish::pipeline::remake::Remake;
use crate::publish::pipeline::spool::{Spool, Spooled};
use crate::split::Rule;
use crate::store::Store;
use crate::system::bridge;

/// Limit of spooled blocks on disk, in bytes.
const SPOOL_MAX_BYTES: u64 = 8 << 30;

/// Repairs the damaged blocks that occur in the seeds.
///
/// # Errors
/// A seed that cannot be read; a mirror whose lock was lost.
pub async fn repair(run: &Run, expected: &ExpectedBlocks, ledgers: &mut [Findings]) -> Result<(), Error> {
    let findings = ledgers.iter().flat_map(|findings| &findings.list);
    let blocks = findings.filter_map(|finding| match finding.object {
        Some(Object::Block(row)) => Some((row.id, row)),
        _ => None,
    });
    let rows: BTreeMap<BlockId, BlockRow> = blocks.collect();
    if rows.is_empty() || run.options.seeds.is_empty() {
        return Ok(());
    }
    let made = make(run, &expected.rules(), rows.into_values().collect()).await?;
    for (mirror, findings) in ledgers.iter_mut().enumerate() {
        if run.mirrors()[mirror].is_up() {
            put_back(run, mirror, findings, &made).await?;
        }
    }
    Ok(())
}

/// Builds the requested blocks found in the seeds, cut by the split rules of the images.
async fn make(run: &Run, rules: &[Rule], rows: Vec<BlockRow>) -> Result<HashMap<BlockId, Spooled>, Error> {
    let spool = Spool::new(std::env::temp_dir(), SPOOL_MAX_BYTES);
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let (made, rows) = (Arc::new(Mutex::new(HashMap::new())), Arc::new(rows));
    for seed in &run.options.seeds {
        let (path, cuts) = (seed.clone(), rules.to_vec());
        let watch = run.repository.watch.silenced();
        let opened = bridge::blocking(move || {
            cuts.iter().try_fold(Input::open(&path)?, |image, &rule| image::for_rule(image, rule, &watch))
        });
        let image = Arc::new(opened.await?);
        for &rule in rules {
            let (image, spool) = (Arc::clone(&image), Arc::clone(&spool));
            let remake = Remake { image, reading: Reading::exact(rule), codec: Codec::default(), jobs, spool };
            let (made, rows, cancel) = (Arc::clone(&made), Arc::clone(&rows), run.cancel());
            let pass = bridge::blocking(move || {
                remake.run(&rows, &cancel, &|block: Spooled| {
                    made.lock().unwrap_or_else(PoisonError::into_inner).insert(block.row().id, block);
                })
            });
            pass.await?;
        }
    }
    let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *made))
}

async fn put_back(
    run: &Run,
    mirror: usize,
    findings: &mut Findings,
    made: &HashMap<BlockId, Spooled>,
) -> Result<(), Error> {
    run.mirrors()[mirror].confirm().await?;
    let store: &dyn Store = &*run.mirrors()[mirror].store;
    for finding in &mut findings.list {
        let Some(Object::Block(row)) = &finding.object else { continue };
        let Some(block) = made.get(&row.id) else { continue };
        let file = block.read().map_err(|e| Error::io(Path::new("the spool file"), &e))?;
        store.put_replace(&finding.path, file.clone()).await?;
        finding.repaired = store.get(&finding.path, file.len() as u64).await.is_ok_and(|found| found == file);
    }
    store.barrier().await?;
    Ok(())
}
