//! Sweeping: what only versions named that were retired long enough ago goes, from every mirror.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use futures_util::future::{join_all, try_join_all};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use super::GcOptions;
use super::roots::{self, Roots};
use crate::digest::BlockId;
use crate::keys::PublicKey;
use crate::layout::RepoPath;
use crate::publish::error::{Error, ErrorKind};
use crate::publish::mirror::OpenMirror;
use crate::publish::progress::Event;
use crate::publish::retired::{DIRECTORY, RECORD_MAX_BYTES, Retired};
use crate::publish::session::Watch;
use crate::store::{Entry, Store};
use crate::time::Timestamp;

/// What went, or would go.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Swept {
    /// Versions whose grace period is over, as `image version`.
    pub versions: Vec<String>,
    /// Versions that wait for their grace period to end.
    pub pending: Vec<Pending>,
    /// Blocks that nobody names any more.
    pub blocks: u64,
    /// Bytes of their files, as they were published.
    pub zlib_bytes: u64,
    /// Other objects: indexes, signatures, files, records.
    pub files: u64,
    /// Each mirror; none where there was nothing to remove, or only to say what would be.
    pub mirrors: Vec<SweptMirror>,
}

/// A version that is retired and still there.
#[derive(Debug, Clone, Serialize)]
pub struct Pending {
    /// `image version`.
    pub version: String,
    /// When it may go.
    pub after: String,
}

/// What was removed from one mirror.
#[derive(Debug, Clone, Serialize)]
pub struct SweptMirror {
    /// Its name.
    pub name: String,
    /// Objects that are gone now.
    pub removed: u64,
    /// Why the rest is still there.
    pub why: Option<String>,
}

/// What may go: blocks, then the files that named them.
#[derive(Default)]
struct Dead {
    blocks: BTreeSet<BlockId>,
    files: Vec<RepoPath>,
}

pub(super) async fn sweep(
    options: &GcOptions,
    mirrors: &[OpenMirror],
    keys: Option<&[PublicKey]>,
    watch: &Watch,
) -> Result<Swept, Error> {
    if let Some((mirror, failure)) = mirrors.iter().find_map(|m| m.failed.as_ref().map(|f| (m, f))) {
        let message = format!("mirror {}: {}; so nothing can be removed", mirror.name(), failure.why);
        return Err(Error::new(failure.kind, message).hint("wait for it, or set enabled = false in mirrors.toml"));
    }
    let listed = try_join_all(mirrors.iter().map(|m| m.store.list(""))).await?;
    let records = records(mirrors, &listed).await?;
    let mut swept = Swept::default();
    let due = due(records, options, &mut swept);
    if due.is_empty() {
        return Ok(swept);
    }
    let roots = roots::find(mirrors, &listed, keys).await?;
    let dead = dead(mirrors, &listed, &due, &roots, &mut swept, watch).await;
    refuse_too_much(&dead, &roots, options)?;
    if options.work.dry_run {
        return Ok(swept);
    }
    try_join_all(mirrors.iter().map(OpenMirror::confirm)).await?;
    watch.progress.event(Event::Step("removing what nobody names any more"));
    swept.mirrors = join_all(mirrors.iter().map(|mirror| remove(mirror, &dead, watch))).await;
    Ok(swept)
}

/// The records that any mirror lists; one that a listing leaves out only waits longer.
async fn records(mirrors: &[OpenMirror], listed: &[Vec<Entry>]) -> Result<Vec<Retired>, Error> {
    let mut records = BTreeMap::new();
    for (mirror, listed) in mirrors.iter().zip(listed) {
        for entry in listed.iter().filter(|e| e.path.as_str().starts_with(&format!("{DIRECTORY}/"))) {
            if records.contains_key(&entry.path) {
                continue;
            }
            let text = mirror.store.get(&entry.path, RECORD_MAX_BYTES).await?;
            let record = Retired::parse(&text).filter(|r| r.path().is_ok_and(|path| path == entry.path));
            let wrong = || {
                let message = format!("{}/{}: not a record of a retired version", mirror.store.location(), entry.path);
                Error::new(ErrorKind::Unverified, message).hint("remove it by hand; what it named then stays for ever")
            };
            records.insert(entry.path.clone(), record.ok_or_else(wrong)?);
        }
    }
    Ok(records.into_values().collect())
}

/// Those whose grace period is over.
fn due(records: Vec<Retired>, options: &GcOptions, swept: &mut Swept) -> Vec<Retired> {
    let now = Timestamp::from_system(SystemTime::now());
    let (due, pending): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|r| r.marked.plus_days(options.grace_days) <= now);
    let name = |r: &Retired| format!("{} {}", r.image, r.row.version);
    swept.versions = due.iter().map(name).collect();
    let after = |r: &Retired| r.marked.plus_days(options.grace_days).to_string();
    swept.pending = pending.iter().map(|r| Pending { version: name(r), after: after(r) }).collect();
    due
}

/// What the due versions named and nothing that lives does, and what else lies there that was published for them alone: a
/// profile that was replaced.
async fn dead(
    mirrors: &[OpenMirror],
    listed: &[Vec<Entry>],
    due: &[Retired],
    roots: &Roots,
    swept: &mut Swept,
    watch: &Watch,
) -> Dead {
    let mut dead = Dead::default();
    let mut records = Vec::new();
    for record in due {
        match roots::index(mirrors, &record.image, &record.row).await {
            Ok(index) => {
                for row in index.blocks().iter().filter(|row| !roots.blocks.contains(&row.id)) {
                    if dead.blocks.insert(row.id) {
                        swept.zlib_bytes += u64::from(row.zlib_bytes);
                    }
                }
            }
            Err(e) => {
                // What it named can no longer be known, and stays.
                watch.progress.event(Event::Warning(&format!("{e}; its blocks stay")));
            }
        }
        let index = record.row.index_path(&record.image);
        let files = record.files.iter().map(|f| f.path.clone());
        let named = files.chain([index]).flat_map(|path| [path.signature(), path]);
        let found = listed.iter().flatten().map(|entry| entry.path.clone());
        let own = named.chain(found.filter(|path| path.belongs_to(&record.image, record.row.version)));
        let lives = |path: &RepoPath| {
            let signed = path.as_str().strip_suffix(".minisig").and_then(|path| path.parse().ok());
            roots.paths.contains(path) || signed.is_some_and(|path| roots.paths.contains(&path))
        };
        let own: BTreeSet<RepoPath> = own.filter(|path| !lives(path)).collect();
        dead.files.extend(own);
        records.extend(record.path());
    }
    // The records go last: as long as one is there, a sweep that was cut short is done again.
    dead.files.append(&mut records);
    swept.blocks = dead.blocks.len() as u64;
    swept.files = dead.files.len() as u64;
    dead
}

fn refuse_too_much(dead: &Dead, roots: &Roots, options: &GcOptions) -> Result<(), Error> {
    let (dead, living) = (dead.blocks.len(), roots.blocks.len());
    if dead <= living || options.more_than_half {
        return Ok(());
    }
    let message = format!("{dead} of {} blocks would be removed: more than half", dead + living);
    Err(Error::new(ErrorKind::Usage, message)
        .hint("say --more-than-half if that is what you want; nothing was removed"))
}

/// Removes it all from one mirror: blocks first, so that what is left after a crash is still named by a record.
async fn remove(mirror: &OpenMirror, dead: &Dead, watch: &Watch) -> SweptMirror {
    let jobs = mirror.config.jobs.map_or(mirror.store.jobs(), |jobs| jobs as usize);
    let blocks = dead.blocks.iter().map(RepoPath::block);
    let mut removed = 0;
    let mut gone = remove_all(&*mirror.store, blocks, jobs, watch, &mut removed).await;
    for file in &dead.files {
        if gone.is_ok() {
            gone = remove_all(&*mirror.store, [file.clone()], 1, watch, &mut removed).await;
        }
    }
    SweptMirror { name: mirror.name().to_owned(), removed, why: gone.err().map(|e| e.to_string()) }
}

async fn remove_all(
    store: &dyn Store,
    paths: impl IntoIterator<Item = RepoPath>,
    jobs: usize,
    watch: &Watch,
    removed: &mut u64,
) -> Result<(), Error> {
    let remove = |path: RepoPath| async move {
        if watch.cancel.load(Ordering::Relaxed) {
            return Err(Error::interrupted());
        }
        Ok(store.delete(&path).await?)
    };
    let mut gone = stream::iter(paths).map(remove).buffer_unordered(jobs);
    while gone.try_next().await?.is_some() {
        *removed += 1;
    }
    Ok(())
}
