//! What the mirrors already hold: the head that the new version builds on, and the blocks that need not be sent again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

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
use crate::read;
use crate::store::StoreErrorKind;

/// The largest list of images, in bytes.
const IMAGES_MAX_BYTES: u64 = 1 << 20;

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
    let heads = mirrors.iter().filter_map(|m| m.head.as_ref());
    let head = heads.max_by_key(|f| (f.head.newest().version, f.head.created)).map(|f| f.head.clone());
    let mut loader = Loader {
        mirrors,
        progress,
        indexes: HashMap::new(),
        known: Known::default(),
        damaged: MirrorSet::default(),
        unusable: Vec::new(),
    };
    for (i, mirror) in mirrors.iter().enumerate() {
        if let Some(found) = &mirror.head {
            loader.load(i, &found.head).await?;
        }
    }
    let indexes = match &head {
        Some(head) => loader.of(head)?,
        None => Vec::new(),
    };
    loader.load_other_images(image, keys).await?;
    let Loader { known, damaged, unusable, .. } = loader;
    Ok(Base { head, indexes, known, damaged, unusable })
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

/// Reads indexes, each once, and collects who holds which blocks.
struct Loader<'a> {
    mirrors: &'a [OpenMirror],
    progress: &'a dyn Progress,
    indexes: HashMap<Sha256, Arc<Index>>,
    known: Known,
    damaged: MirrorSet,
    unusable: Vec<(usize, Error)>,
}

impl Loader<'_> {
    /// Takes in every index that a head of `mirror` vouches for; an unreadable one is only a warning.
    async fn load(&mut self, mirror: usize, head: &Head) -> Result<(), Error> {
        for row in &head.versions {
            let index = match self.indexes.get(&row.index_sha256) {
                Some(index) => Arc::clone(index),
                None => match read::index(&*self.mirrors[mirror].store, &head.image, row).await {
                    Ok(index) => Arc::new(index),
                    Err(e) => {
                        self.progress.event(Event::Warning(&format!("{e}; its blocks are not reused")));
                        self.damaged = self.damaged.with(mirror);
                        continue;
                    }
                },
            };
            self.known.add(&index, mirror)?;
            self.indexes.insert(row.index_sha256, index);
        }
        Ok(())
    }

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

    async fn load_other_images(&mut self, image: &Name, keys: &[PublicKey]) -> Result<(), Error> {
        for (i, mirror) in self.mirrors.iter().enumerate().filter(|(_, m)| m.is_up()) {
            let names = match images(mirror).await {
                Ok(names) => names,
                Err(e) => {
                    self.unusable.push((i, e));
                    continue;
                }
            };
            for name in names.iter().filter(|name| *name != image) {
                for key in keys {
                    // A head of somebody else's is no error, its blocks are just not ours to rely on.
                    if let Ok(Some(found)) = read::head(&*mirror.store, name, &Trust::Key(key.clone())).await {
                        self.load(i, &found.head).await?;
                        break;
                    }
                }
            }
        }
        Ok(())
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
