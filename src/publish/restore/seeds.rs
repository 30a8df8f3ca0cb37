//! Takes blocks from seed images: each is cut as the image was, and what the image contains too is written.

use std::collections::HashMap;
use std::path::Path;

use super::work::Work;
use crate::disk::input::Input;
use crate::error::Error;
use crate::format::block::Block;
use crate::format::digest::Sha256;
use crate::progress::Origin;
use crate::publish::pipeline::image::{self, Reading};
use crate::publish::pipeline::workers;
use crate::split::{Rule, RuleError};

/// Writes the blocks that a seed has and the output lacks.
///
/// # Errors
/// A seed that cannot be read or cut; a failed write; the user cancelled.
pub fn take_seed(work: &Work, seed: &Path, jobs: usize) -> Result<(), Error> {
    let wanted: HashMap<Sha256, u32> = work.index.blocks().iter().map(|row| row.sha256).zip(0..).collect();
    let rule = Rule::try_from(&work.index.header().split).map_err(|e| unknown_rule(seed, &e))?;
    let image = image::for_rule(Input::open(seed)?, rule, &work.watch.silenced())?;
    let take = |(): &mut (), cut: crate::split::Cut| {
        let (sha256, bytes) = Block::of(cut.bytes);
        match wanted.get(&sha256) {
            Some(&block) => work.write(block, &bytes, Origin::Seed).map(drop),
            None => {
                work.save_base(&sha256, &bytes);
                Ok(())
            }
        }
    };
    workers::work_on_blocks(&image, Reading::exact(rule), jobs, &work.watch.cancel, &|_| {}, || (), take).map(drop)
}

fn unknown_rule(seed: &Path, why: &RuleError) -> Error {
    Error::local(format!("{}: a seed must be cut as the image was: {why}", seed.display()))
        .hint("without --seed, all blocks are downloaded")
}
