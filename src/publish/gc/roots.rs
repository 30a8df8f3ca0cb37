//! What lives: everything that a believed head of any image on any mirror names.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::future::try_join_all;

use crate::digest::{BlockId, Sha256};
use crate::head::{FileRow, Head, Trust, VersionRow};
use crate::index::Index;
use crate::keys::PublicKey;
use crate::layout::{Kind, RepoPath};
use crate::name::Name;
use crate::publish::base;
use crate::publish::error::{Error, ErrorKind};
use crate::publish::mirror::OpenMirror;
use crate::publish::plan::newer_publisher;
use crate::read;
use crate::store::Entry;

/// What must stay.
#[derive(Debug, Default)]
pub(super) struct Roots {
    /// Blocks of all versions that a head names.
    pub blocks: HashSet<BlockId>,
    /// Indexes and files that a head names; a signature lives as long as what it signs.
    pub paths: HashSet<RepoPath>,
}

/// Collects what lives; `listed` is all that each mirror lists, and only ever adds to it.
///
/// # Errors
/// A head that is missing or not believed, an index that no mirror has: then nobody can say what lives.
pub(super) async fn find(
    mirrors: &[OpenMirror],
    listed: &[Vec<Entry>],
    keys: Option<&[PublicKey]>,
) -> Result<Roots, Error> {
    let lists = try_join_all(mirrors.iter().map(base::images)).await?;
    let mut names: BTreeSet<Name> = lists.into_iter().flatten().collect();
    for entry in listed.iter().flatten() {
        if let Kind::Head(name) = entry.path.kind() {
            names.insert(name);
        }
    }
    let mut roots = Roots::default();
    let mut rows: HashMap<Sha256, (Name, VersionRow)> = HashMap::new();
    for name in &names {
        let heads = try_join_all(mirrors.iter().map(|mirror| believed(mirror, name, keys))).await?;
        for head in heads {
            roots.take_in(&head);
            let versions = head.versions.into_iter().map(|row| (row.index_sha256, (head.image.clone(), row)));
            rows.extend(versions);
        }
    }
    for (name, row) in rows.values() {
        let index = index(mirrors, name, row).await?;
        roots.blocks.extend(index.blocks().iter().map(|row| row.id));
    }
    Ok(roots)
}

impl Roots {
    fn take_in(&mut self, head: &Head) {
        let indexes = head.versions.iter().map(|row| row.index_path(&head.image));
        let paths = indexes.chain(head.files.iter().map(|FileRow { path, .. }| path.clone()));
        for path in paths {
            self.paths.insert(path.signature());
            self.paths.insert(path);
        }
    }
}

/// The head of an image on one mirror, believed by some key.
async fn believed(mirror: &OpenMirror, name: &Name, keys: Option<&[PublicKey]>) -> Result<Head, Error> {
    let trusts: Vec<Trust> = match keys {
        Some(keys) => keys.iter().cloned().map(Trust::Key).collect(),
        None => vec![Trust::Anyone],
    };
    let mut why = format!("no key is known that could have signed {name}");
    for trust in trusts {
        match read::head(&*mirror.store, name, &trust).await {
            Ok(Some(found)) => match found.head.binding_note() {
                Some(note) => return Err(newer_publisher(name, note)),
                None => return Ok(found.head),
            },
            Ok(None) => {
                let message =
                    format!("mirror {}: the head of {name} is missing, so nothing can be removed", mirror.name());
                return Err(Error::new(ErrorKind::Unverified, message).hint("bring it up to date with hfl sync"));
            }
            Err(e) => why = e.to_string(),
        }
    }
    let message = format!("mirror {}: {why}; so nothing can be removed", mirror.name());
    let advice = format!("put the public key of {name} as {name}.pub beside the other keys, or repair its head");
    Err(Error::new(ErrorKind::Unverified, message).hint(advice))
}

/// An index from any mirror that has it.
pub(super) async fn index(mirrors: &[OpenMirror], name: &Name, row: &VersionRow) -> Result<Index, Error> {
    let mut failed = None;
    for mirror in mirrors {
        match read::index(&*mirror.store, name, row).await {
            Ok(index) => return Ok(index),
            Err(e) => failed = Some(e),
        }
    }
    let why = failed.map_or_else(String::new, |e| e.to_string());
    let message = format!("no mirror has a good index of {name} version {}: {why}", row.version);
    Err(Error::new(ErrorKind::Unverified, message))
}
