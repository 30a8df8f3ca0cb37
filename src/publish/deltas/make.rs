//! Makes the deltas of a new version.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use super::chooser::Scratch;
use super::encoder::Encoder;
use super::image_blocks::ImageBlocks;
use super::old_blocks::{OldBlocks, OldSources};
use super::{Deltas, UpdateReport};
use crate::disk::input::Input;
use crate::error::Error;
use crate::format::block::BlockRow;
use crate::format::digest::Sha256;
use crate::format::index::Index;
use crate::format::name::{Name, Version};
use crate::format::update::{Bases, DELTAS_MAX, DeltaRow, PREFIX_MAX_BYTES, Update};
use crate::progress::{Event, Phase, Watch};
use crate::publish::object::Object;
use crate::publish::pad::{Pad, Placed};
use crate::publish::pipeline::cut::CutImage;
use crate::publish::places::Places;
use crate::store::Store;
use crate::system::bridge;

/// What deltas are made of.
pub struct Ingredients<'a> {
    /// Image name.
    pub name: &'a Name,
    /// The new version.
    pub version: Version,
    /// The new image, which can be read at any offset.
    pub image: &'a Arc<Input>,
    /// The user's copies of the older images, in the order of `old`.
    pub bases: Vec<Arc<Input>>,
    /// How it was cut.
    pub cut: &'a CutImage,
    /// The older versions, newest first.
    pub old: Vec<Arc<Index>>,
    /// The mirrors, which have the blocks of these.
    pub stores: Arc<[Arc<dyn Store>]>,
    /// Where temporary files are created.
    pub directory: &'a Path,
    /// Number of threads.
    pub jobs: usize,
}

/// A delta that was made.
struct Made {
    row: BlockRow,
    /// Positions among the old blocks.
    bases: Bases,
    sha256: Sha256,
    placed: Placed,
}

/// Makes the deltas from the newest so many `versions` to the new one.
///
/// # Errors
/// A temporary file that cannot be written; interrupted by the user.
pub async fn make(from: &Ingredients<'_>, versions: usize, watch: &Watch) -> Result<Deltas, Error> {
    let pad = Arc::new(Pad::new(from.directory).map_err(|e| Error::io(from.directory, &e))?);
    let (mut updates, mut files) = (Vec::new(), BTreeMap::new());
    let places = Arc::new(Places::new(from.cut.blocks.len(), &from.cut.extents));
    let now: HashSet<Sha256> = from.cut.blocks.iter().map(|row| row.sha256).collect();
    for (i, old) in from.old.iter().take(versions).enumerate() {
        let sources = OldSources { image: from.bases.get(i).cloned(), stores: Arc::clone(&from.stores) };
        let held: HashSet<Sha256> = old.blocks().iter().map(|row| row.sha256).collect();
        let is_new = |row: &BlockRow| !held.contains(&row.sha256);
        let new = ImageBlocks::new(Arc::clone(from.image), &from.cut.blocks, Arc::clone(&places), is_new);
        let is_gone = |row: &BlockRow| !now.contains(&row.sha256);
        let bytes = |rows: &mut dyn Iterator<Item = &BlockRow>| rows.map(|row| u64::from(row.bytes)).sum::<u64>();
        let all = bytes(&mut new.rows().iter()) + bytes(&mut old.blocks().iter().filter(|row| is_gone(row)));
        watch.progress.event(Event::Phase(Phase::Deltas));
        watch.progress.event(Event::Start { image_bytes: Some(all) });
        let old_blocks = OldBlocks::gather(old, is_gone, &sources, from.directory, watch).await?;
        let (jobs, spool, stop) = (from.jobs, Arc::clone(&pad), watch.clone());
        let work = bridge::blocking(move || {
            encode_all(&new, &old_blocks, &spool, jobs, &stop).map(|made| (made, new, old_blocks.rows))
        });
        let (made, new, old_rows) = work.await?;
        files.extend(made.iter().map(|made| (made.sha256, made.placed)));
        let Some(update) = update(from.name, (old.header().version, from.version), made, &old_rows)? else { continue };
        let (row, file) = update.to_file();
        updates.push((Object::new(row.path, file), report(&update, new.rows(), row.bytes)));
    }
    let pad = Arc::try_unwrap(pad).map_err(|_| Error::local("the deltas are still shared"))?;
    Ok(Deltas { updates, files, pad })
}

fn encode_all(new: &ImageBlocks, old: &OldBlocks, pad: &Pad, jobs: usize, watch: &Watch) -> Result<Vec<Made>, Error> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build();
    let pool = pool.map_err(|e| Error::local(format!("cannot start {jobs} threads: {e}")))?;
    let tools = || (Encoder::default(), Scratch::default(), Vec::new());
    let encode = |tools: &mut (Encoder, Scratch, Vec<u8>), block: usize| {
        if watch.cancel.load(Ordering::Relaxed) {
            return Err(Error::interrupted());
        }
        watch.progress.event(Event::Read { bytes: new.rows()[block].bytes.into() });
        let made = encode_one(new, block, old, pad, tools);
        made.map_err(|e| Error::local(format!("a temporary file: {e}")))
    };
    pool.install(|| {
        let made = (0..new.rows().len()).into_par_iter().map_init(tools, |tools, block| encode(tools, block));
        made.filter_map(Result::transpose).collect()
    })
}

/// The delta of one block, if it has something in common with old blocks, and saves a quarter at least.
fn encode_one(
    new: &ImageBlocks,
    block: usize,
    old: &OldBlocks,
    pad: &Pad,
    (encoder, scratch, prefix): &mut (Encoder, Scratch, Vec<u8>),
) -> io::Result<Option<Made>> {
    let row = new.rows()[block];
    // The encoder verifies what the delta makes.
    let Some(bytes) = new.read_unverified(block) else { return Ok(None) };
    let (Some(best), second) = old.chooser.choose(&old.sampling.features(&bytes), scratch) else { return Ok(None) };
    let size = |block: u32| old.rows[block as usize].bytes;
    let second = second.filter(|&second| size(best) + size(second) <= PREFIX_MAX_BYTES);
    // The nearer bytes have the shorter offsets, so the best block stands last.
    let bases = second.map_or(Bases::One(best), |second| Bases::Two(second, best));
    prefix.clear();
    for base in bases.iter() {
        old.read(base, prefix)?;
    }
    let max_bytes = row.zlib_bytes / 4 * 3;
    let Some(file) = encoder.encode(prefix, &row, &bytes, max_bytes as usize) else { return Ok(None) };
    let sha256 = Sha256::of(file);
    Ok(Some(Made { row, bases, sha256, placed: pad.add(file)? }))
}

/// The update that lists these deltas; `None` if there are none.
fn update(
    name: &Name,
    versions: (Version, Version),
    mut made: Vec<Made>,
    old: &[BlockRow],
) -> Result<Option<Update>, Error> {
    if made.is_empty() {
        return Ok(None);
    }
    // Beyond the limit, those that save least are left out.
    made.sort_unstable_by_key(|made| std::cmp::Reverse(made.row.zlib_bytes - made.placed.bytes()));
    made.truncate(DELTAS_MAX as usize);
    made.sort_unstable_by_key(|made| made.row.id);
    let (mut bases, mut places) = (Vec::new(), HashMap::new());
    let mut place = |block: u32| {
        *places.entry(block).or_insert_with(|| {
            bases.push(old[block as usize]);
            bases.len() as u32 - 1
        })
    };
    let rows = made.iter().map(|made| DeltaRow {
        id: made.row.id,
        bytes: made.placed.bytes(),
        sha256: made.sha256,
        bases: made.bases.map(&mut place),
    });
    let rows = rows.collect();
    Update::new(name.clone(), versions, bases, rows).map(Some).map_err(|e| Error::local(e.to_string()))
}

fn report(update: &Update, new: &[BlockRow], list_bytes: u64) -> UpdateReport {
    let block_bytes = new.iter().map(|row| u64::from(row.zlib_bytes)).sum::<u64>();
    UpdateReport {
        from: update.from().number(),
        blocks: new.len() as u64,
        block_bytes,
        deltas: update.deltas().len() as u64,
        delta_bytes: update.delta_bytes(),
        download_bytes: block_bytes - update.saved_bytes(new) + list_bytes,
    }
}
