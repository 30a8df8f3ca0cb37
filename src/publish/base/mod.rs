//! What a new version builds on: the newest head of all mirrors, the highest version number ever used, and the blocks
//! that need not be sent again.
//!
//! Only the newest indexes are read, within a budget. Blocks found only in older versions are compressed again, and
//! found present when sent.

pub mod beginning;
pub mod block_holders;
pub mod indexes;
pub mod listing;
pub mod numbering;
pub mod presence;
pub mod source_order;
pub mod split_rule;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use super::repository::OpenRepository;
use super::repository::mirror::{self, OpenMirror};
use crate::error::{Error, ErrorKind};
use crate::format::digest::Sha256;
use crate::format::head::{Head, VersionRow};
use crate::format::index::Index;
use crate::format::name::{Name, Version};
use crate::progress::{Event, Progress};
use crate::repo::{self, ReadError};
use crate::store::StoreErrorKind;
use block_holders::{BlockHolders, MirrorSet};

/// Indexes fetched concurrently; each may be large.
const INDEXES_AT_ONCE: usize = 4;
/// Size budget for this image's indexes in bytes; the newest is always read.
const OWN_INDEXES_BYTES: u64 = 8 << 20;
/// Size budget for the indexes of all other images together, in bytes.
const OTHER_INDEXES_BYTES: u64 = 32 << 20;

/// The state that a new version builds on.
#[derive(Debug, Default)]
pub struct Base {
    /// The newest head of all mirrors; `None` for a new image.
    pub head: Option<Head>,
    /// The newest indexes that it names, newest first, as far as they were read.
    pub indexes: Vec<(VersionRow, Arc<Index>)>,
    /// The blocks of this and other images, and their holders.
    pub known: BlockHolders,
    /// Mirrors where an index that their head names could not be read.
    pub damaged: MirrorSet,
    /// The highest version number ever used, as far as there is evidence.
    pub highest: Option<Version>,
    /// A conflict that only a further version resolves: two mirrors have different newest versions with one number, or
    /// a mirror without a head had a later version than any head names.
    pub conflict: Option<String>,
}

impl Base {
    /// The index of the newest version.
    pub fn newest(&self) -> Option<&Index> {
        self.indexes.first().map(|(_, index)| &**index)
    }

    /// The number of the next version.
    ///
    /// # Errors
    /// The version numbers are exhausted.
    pub fn next_version(&self) -> Result<Version, Error> {
        let newest = self.head.as_ref().map(|head| head.newest().version);
        match newest.max(self.highest) {
            None => Ok(Version::FIRST),
            Some(highest) => highest.next().ok_or_else(|| Error::local("the version numbers have run out")),
        }
    }
}

/// How much is read from the mirrors to avoid sending blocks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Only the newest index of the image: all mirrors have the same head, and nothing is to be sent.
    Newest,
    /// The newest indexes of all images, within the budgets.
    All,
}

/// A version of an image, and the mirrors whose heads name it.
#[derive(Debug, Clone)]
pub struct Vouched {
    /// Image name.
    pub image: Name,
    /// The version's row in the head.
    pub row: VersionRow,
    /// The mirrors whose heads vouch for it.
    pub mirrors: MirrorSet,
}

/// Determines the base of `image` from the surveyed heads, and what can be reused.
///
/// # Errors
/// A SHA-1 collision.
pub async fn find(repository: &OpenRepository, image: &Name, reuse: Reuse) -> Result<Base, Error> {
    let (mirrors, progress) = (&repository.mirrors, &*repository.watch.progress);
    let own: Vec<(usize, &Head)> =
        mirrors.iter().enumerate().filter_map(|(i, m)| Some((i, &m.head.as_ref()?.head))).collect();
    let head = own.iter().map(|(_, head)| *head).max_by_key(|head| crate::repo::survey::head::age(head));
    let mut base = Base { head: head.cloned(), ..Base::default() };
    // Caused by two publishers, neither of which could reach the other's mirror.
    let split = || format!("two mirrors have different newest versions of {image} under one number");
    base.conflict = is_split(&own).then(split);
    base.highest = own.iter().map(|(_, head)| head.newest().version).max();
    let wanted = match reuse {
        Reuse::Newest => newest_within(head, &own, 0),
        Reuse::All => [newest_within(head, &own, OWN_INDEXES_BYTES), others(repository, image)].concat(),
    };
    let mut loaded = load_all(mirrors, wanted, &mut base, progress).await?;
    let Some(head) = head else { return Ok(base) };
    let rows = head.versions.iter();
    base.indexes = rows.map_while(|row| loaded.remove(&row.index_sha256).map(|index| (row.clone(), index))).collect();
    Ok(base)
}

/// The error for a version whose index is damaged or missing on all mirrors.
pub fn no_good_index(image: &Name, row: &VersionRow) -> Error {
    let message = format!("no mirror has a good index of {image} version {}", row.version);
    let path = row.index_path(image);
    Error::new(ErrorKind::Unverified, message).hint(format!(
        "restore {path} from a copy of the repository; or retire its version with hfl gc --image {image} --retire {}; or, \
         where it is the newest, leave out the mirrors whose head names it (enabled = false) until they have it",
        row.version
    ))
}

/// Whether two heads have different newest versions with the same number.
fn is_split(heads: &[(usize, &Head)]) -> bool {
    let newest = heads.iter().map(|(_, head)| head.newest()).max_by_key(|row| row.version);
    newest.is_some_and(|newest| {
        let differs = |row: &VersionRow| row.version == newest.version && row.index_sha256 != newest.index_sha256;
        heads.iter().any(|(_, head)| differs(head.newest()))
    })
}

/// The newest versions of a head whose indexes fit into `budget_bytes` together, always including the newest, with all
/// mirrors that vouch for each.
fn newest_within(head: Option<&Head>, vouching: &[(usize, &Head)], budget_bytes: u64) -> Vec<Vouched> {
    let (mut wanted, mut bytes) = (Vec::new(), 0);
    let Some(head) = head else { return wanted };
    for row in &head.versions {
        bytes += row.index_bytes;
        if !wanted.is_empty() && bytes > budget_bytes {
            break;
        }
        wanted.push(vouched(&head.image, row, vouching));
    }
    wanted
}

fn vouched(image: &Name, row: &VersionRow, vouching: &[(usize, &Head)]) -> Vouched {
    let names_it = |head: &Head| head.version(row.version).is_some_and(|r| r.index_sha256 == row.index_sha256);
    let mirrors = vouching.iter().filter(|(_, head)| names_it(head)).map(|(i, _)| *i).collect();
    Vouched { image: image.clone(), row: row.clone(), mirrors }
}

/// The newest versions of all other images, as named by each mirror's own heads.
fn others(repository: &OpenRepository, image: &Name) -> Vec<Vouched> {
    let mut heads: BTreeMap<&Name, Vec<(usize, &Head)>> = BTreeMap::new();
    let up = |i: usize| repository.mirrors[i].is_up();
    for (i, name, head) in repository.verified_heads().filter(|(i, name, _)| up(*i) && *name != image) {
        heads.entry(name).or_default().push((i, head));
    }
    let (mut wanted, mut bytes) = (Vec::new(), 0);
    for (name, vouching) in &heads {
        let mut rows: BTreeMap<Sha256, &VersionRow> = BTreeMap::new();
        rows.extend(vouching.iter().map(|(_, head)| (head.newest().index_sha256, head.newest())));
        for row in rows.values() {
            bytes += row.index_bytes;
            if bytes <= OTHER_INDEXES_BYTES {
                wanted.push(vouched(name, row, vouching));
            }
        }
    }
    wanted
}

/// Reads each of these indexes once and records the holders of their blocks.
async fn load_all(
    mirrors: &[OpenMirror],
    wanted: Vec<Vouched>,
    base: &mut Base,
    progress: &dyn Progress,
) -> Result<BTreeMap<Sha256, Arc<Index>>, Error> {
    let fetched = wanted.into_iter().map(|vouched| async move { (load(mirrors, &vouched).await, vouched) });
    let mut fetched = stream::iter(fetched).buffer_unordered(INDEXES_AT_ONCE);
    let mut loaded = BTreeMap::new();
    while let Some(((index, failed), vouched)) = fetched.next().await {
        for (mirror, e) in failed {
            progress.event(Event::Warning(&format!("{e}; its blocks are not reused")));
            base.damaged = base.damaged.with(mirror);
        }
        let Some(index) = index else { continue };
        vouched.mirrors.iter().try_for_each(|mirror| base.known.add(&index, mirror))?;
        loaded.insert(vouched.row.index_sha256, index);
    }
    Ok(loaded)
}

/// Reads the index from the first mirror with a good copy; also returns the vouching mirrors that failed. Mirrors that
/// do not vouch for it are asked last, since they may have it too.
pub async fn load(mirrors: &[OpenMirror], vouched: &Vouched) -> (Option<Arc<Index>>, Vec<(usize, ReadError)>) {
    let others = mirror::up(mirrors).into_iter().filter(|i| !vouched.mirrors.contains(*i));
    let which = vouched.mirrors.iter().chain(others);
    let mut found = indexes::find(mirrors, which, &vouched.image, &vouched.row).await;
    found.failed.retain(|(mirror, _)| vouched.mirrors.contains(*mirror));
    (found.index.map(Arc::new), found.failed)
}

/// Reads the index of one version of an image; also returns the mirrors whose heads name it.
///
/// # Errors
/// No mirror has a good copy.
pub async fn index_of(
    mirrors: &[OpenMirror],
    image: &Name,
    row: &VersionRow,
) -> Result<(Arc<Index>, MirrorSet), Error> {
    let heads = mirrors.iter().enumerate().filter(|(_, m)| m.is_up());
    let own: Vec<(usize, &Head)> = heads.filter_map(|(i, m)| Some((i, &m.head.as_ref()?.head))).collect();
    let vouched = vouched(image, row, &own);
    let (index, failed) = load(mirrors, &vouched).await;
    match index {
        Some(index) => Ok((index, vouched.mirrors)),
        None if failed.iter().all(|(_, e)| e.kind() == repo::ReadErrorKind::Store(StoreErrorKind::Unreachable)) => {
            let why = failed.into_iter().next().map_or_else(String::new, |(_, e)| e.to_string());
            let message = format!("the index of {image} version {} cannot be read: {why}", row.version);
            Err(Error::new(ErrorKind::Unreachable, message))
        }
        None => Err(no_good_index(image, row)),
    }
}
