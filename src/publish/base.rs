//! What the mirrors already hold: the head that the new version builds on, and the blocks that need not be sent again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;

use super::error::{Error, ErrorKind};
use super::known::{Known, MirrorSet};
use super::mirror::OpenMirror;
use super::progress::{Event, Progress};
use crate::digest::Sha256;
use crate::head::{Head, Trust, VersionRow};
use crate::index::Index;
use crate::keys::PublicKey;
use crate::layout::RepoPath;
use crate::name::{Name, Version};
use crate::read::{self, ReadError};
use crate::store::StoreErrorKind;

/// The largest list of images, in bytes.
pub(super) const IMAGES_MAX_BYTES: u64 = 1 << 20;
/// Indexes fetched at the same time: each may be large.
const INDEXES_AT_ONCE: usize = 4;
/// Heads of other images asked for at the same time on one mirror.
const HEADS_AT_ONCE: usize = 8;

/// The state that a new version builds on.
#[derive(Debug, Default)]
pub struct Base {
    /// The highest head of all mirrors, none for a new image.
    pub head: Option<Head>,
    /// The indexes that it names, newest first, as far as they could be read.
    pub indexes: Vec<(VersionRow, Arc<Index>)>,
    /// The blocks of this and other images, and who holds them.
    pub known: Known,
    /// Mirrors on which an index that their head names could not be read.
    pub damaged: MirrorSet,
    /// Mirrors that cannot take part, and why.
    pub unusable: Vec<(usize, Error)>,
}

impl Base {
    /// The index of the newest version.
    pub fn newest(&self) -> Option<&Index> {
        self.indexes.first().map(|(_, index)| &**index)
    }

    /// The number of the next version.
    ///
    /// # Errors
    /// There is none.
    pub fn next_version(&self) -> Result<Version, Error> {
        match &self.head {
            None => Ok(Version::FIRST),
            Some(head) => head.newest().version.next().ok_or_else(|| Error::local("the version numbers have run out")),
        }
    }

    /// The index of one version.
    pub fn index(&self, version: Version) -> Option<&Index> {
        self.indexes.iter().find(|(row, _)| row.version == version).map(|(_, index)| &**index)
    }
}

/// Finds the base of `image` among the heads that were read, and all that can be reused.
///
/// `keys` are those whose heads of other images are believed.
///
/// # Errors
/// Two mirrors that hold different indexes under one version; a newest index that no mirror has.
pub async fn find(
    mirrors: &[OpenMirror],
    image: &Name,
    keys: &[PublicKey],
    progress: &dyn Progress,
) -> Result<Base, Error> {
    refuse_conflicts(mirrors)?;
    let own = mirrors.iter().enumerate().filter_map(|(i, m)| m.head.as_ref().map(|f| (i, f.head.clone())));
    let mut vouching: Vec<(usize, Head)> = own.collect();
    let mut unusable = Vec::new();
    for (i, others) in other_heads(mirrors, image, keys).await {
        match others {
            Ok(heads) => vouching.extend(heads.into_iter().map(|head| (i, head))),
            Err(e) => unusable.push((i, e)),
        }
    }
    let loaded = load_all(mirrors, &vouching, progress).await?;
    let newest = |a: &&Head| (a.newest().version, a.created);
    let head = vouching.iter().map(|(_, head)| head).filter(|head| head.image == *image).max_by_key(newest);
    let indexes = head.map(|head| loaded.of(head)).transpose()?.unwrap_or_default();
    Ok(Base { head: head.cloned(), indexes, known: loaded.known, damaged: loaded.damaged, unusable })
}

/// Two different indexes under one version are two histories; nothing can be built on both.
fn refuse_conflicts(mirrors: &[OpenMirror]) -> Result<(), Error> {
    let mut seen: HashMap<Version, (Sha256, &str)> = HashMap::new();
    for mirror in mirrors {
        for row in mirror.head.iter().flat_map(|f| &f.head.versions) {
            let (digest, other) = *seen.entry(row.version).or_insert((row.index_sha256, mirror.name()));
            if digest != row.index_sha256 {
                let message =
                    format!("version {} on mirror {} is not the version {0} on {other}", row.version, mirror.name());
                return Err(Error::new(ErrorKind::Conflict, message)
                    .hint("two publishers have published apart; disable one of the two mirrors, or empty it"));
            }
        }
    }
    Ok(())
}

/// The believed heads of all other images, mirror by mirror; one that is not believed is no error, its blocks are just not
/// ours to rely on.
async fn other_heads(
    mirrors: &[OpenMirror],
    image: &Name,
    keys: &[PublicKey],
) -> Vec<(usize, Result<Vec<Head>, Error>)> {
    let up = mirrors.iter().enumerate().filter(|(_, m)| m.is_up());
    let heads = up.map(|(i, mirror)| async move {
        let names = match images(mirror).await {
            Ok(names) => names,
            Err(e) => return (i, Err(e)),
        };
        let others = names.into_iter().filter(|name| name != image);
        let heads = stream::iter(others).map(|name| async move { believed(mirror, &name, keys).await });
        (i, Ok(heads.buffer_unordered(HEADS_AT_ONCE).filter_map(|head| async { head }).collect().await))
    });
    join_all(heads).await
}

async fn believed(mirror: &OpenMirror, name: &Name, keys: &[PublicKey]) -> Option<Head> {
    for key in keys {
        if let Ok(Some(found)) = read::head(&*mirror.store, name, &Trust::Key(key.clone())).await {
            return Some(found.head);
        }
    }
    None
}

/// The indexes that heads vouch for, each read once, and who holds their blocks.
#[derive(Default)]
struct Loaded {
    indexes: HashMap<Sha256, Arc<Index>>,
    known: Known,
    damaged: MirrorSet,
}

/// One index and the mirrors whose heads name it.
struct Vouched<'a> {
    image: &'a Name,
    row: &'a VersionRow,
    mirrors: Vec<usize>,
}

async fn load_all(
    mirrors: &[OpenMirror],
    vouching: &[(usize, Head)],
    progress: &dyn Progress,
) -> Result<Loaded, Error> {
    let mut wanted: HashMap<Sha256, Vouched<'_>> = HashMap::new();
    for (mirror, head) in vouching {
        for row in &head.versions {
            let new = || Vouched { image: &head.image, row, mirrors: Vec::new() };
            wanted.entry(row.index_sha256).or_insert_with(new).mirrors.push(*mirror);
        }
    }
    let fetched = wanted.into_values().map(|vouched| async move { (load(mirrors, &vouched).await, vouched) });
    let mut fetched = stream::iter(fetched).buffer_unordered(INDEXES_AT_ONCE);
    let mut loaded = Loaded::default();
    while let Some(((index, failed), vouched)) = fetched.next().await {
        for (mirror, e) in failed {
            progress.event(Event::Warning(&format!("{e}; its blocks are not reused")));
            loaded.damaged = loaded.damaged.with(mirror);
        }
        let Some(index) = index else { continue };
        vouched.mirrors.iter().try_for_each(|mirror| loaded.known.add(&index, *mirror))?;
        loaded.indexes.insert(vouched.row.index_sha256, index);
    }
    Ok(loaded)
}

/// The index from the first mirror that has it, and the mirrors that should have had it.
async fn load(mirrors: &[OpenMirror], vouched: &Vouched<'_>) -> (Option<Arc<Index>>, Vec<(usize, ReadError)>) {
    let mut failed = Vec::new();
    for &mirror in &vouched.mirrors {
        match read::index(&*mirrors[mirror].store, vouched.image, vouched.row).await {
            Ok(index) => return (Some(Arc::new(index)), failed),
            Err(e) => failed.push((mirror, e)),
        }
    }
    (None, failed)
}

impl Loaded {
    /// The indexes of `head`; the newest one must be there.
    fn of(&self, head: &Head) -> Result<Vec<(VersionRow, Arc<Index>)>, Error> {
        let find = |row: &VersionRow| self.indexes.get(&row.index_sha256).map(|i| (row.clone(), Arc::clone(i)));
        let indexes: Vec<_> = head.versions.iter().filter_map(find).collect();
        if indexes.first().is_some_and(|(row, _)| row.version == head.newest().version) {
            return Ok(indexes);
        }
        let message = format!("no mirror has a good index of {} version {}", head.image, head.newest().version);
        Err(Error::new(ErrorKind::Unverified, message)
            .hint(format!("restore {} from a copy of the repository", head.newest().index_path(&head.image))))
    }
}

/// The names of all images on a mirror.
///
/// # Errors
/// A list that cannot be read, or holds anything but names.
pub async fn images(mirror: &OpenMirror) -> Result<BTreeSet<Name>, Error> {
    let file = match mirror.store.get(&RepoPath::images(), IMAGES_MAX_BYTES).await {
        Err(e) if e.kind() == StoreErrorKind::NotFound => return Ok(BTreeSet::new()),
        file => file?,
    };
    let text = String::from_utf8_lossy(&file);
    text.lines().map(|line| line.parse().map_err(|e| bad_list(mirror, line, &e))).collect()
}

fn bad_list(mirror: &OpenMirror, line: &str, why: &dyn std::fmt::Display) -> Error {
    let shown: String = line.chars().take(40).collect();
    let message = format!("{}/images: `{shown}` is no name of an image: {why}", mirror.store.location());
    Error::new(ErrorKind::Unverified, message).hint("the list holds one name a line; correct it by hand")
}
