//! Bringing a mirror that is new or behind up to date, with what the other mirrors hold.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::base::Base;
use super::error::{Error, ErrorKind};
use super::mirror::OpenMirror;
use super::upload::Job;
use crate::digest::Sha256;
use crate::head::Head;
use crate::index::Index;
use crate::keys::SIGNATURE_MAX_BYTES;
use crate::layout::RepoPath;
use crate::store::Store;

/// The blocks of `indexes` that some mirror holds and `mirror` does not.
pub fn missing_blocks(indexes: &[Arc<Index>], base: &Base, mirrors: &[OpenMirror], mirror: usize) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut seen = HashSet::new();
    for row in indexes.iter().flat_map(|index| index.blocks()) {
        let Some(known) = base.known.get(&row.id) else { continue };
        if known.holders.contains(mirror) || !seen.insert(row.id) {
            continue;
        }
        let holders: Vec<Arc<dyn Store>> =
            known.holders.iter().map(|holder| Arc::clone(&mirrors[holder].store)).collect();
        jobs.push(Job::Copy(known.row, holders.into()));
    }
    jobs
}

/// Copies the older indexes and files that the base's head names, with their signatures, to a mirror that lacks some.
///
/// # Errors
/// An object of which no mirror has a good copy.
pub async fn copy_files(base: &Base, mirrors: &[OpenMirror], mirror: usize, signed: bool) -> Result<(), Error> {
    let target = &mirrors[mirror];
    let has = |head: &Head| {
        target.head.as_ref().is_some_and(|f| f.head.versions == head.versions && f.head.files == head.files)
    };
    let Some(head) = &base.head else { return Ok(()) };
    if has(head) && !base.damaged.contains(mirror) {
        return Ok(());
    }
    let sources: Vec<&dyn Store> =
        mirrors.iter().filter(|m| m.head.is_some() && m.is_up()).map(|m| &*m.store).collect();
    for (path, bytes, sha256) in older_files(base, head) {
        copy_checked(&*target.store, &sources, &path, bytes, Some(sha256)).await?;
        if signed {
            copy_checked(&*target.store, &sources, &path.signature(), SIGNATURE_MAX_BYTES as u64, None).await?;
        }
    }
    Ok(())
}

/// The indexes and other files that the base's head names: path, bytes, digest.
fn older_files(base: &Base, head: &Head) -> Vec<(RepoPath, u64, Sha256)> {
    let indexes = base.indexes.iter().map(|(row, _)| (row.index_path(&head.image), row.index_bytes, row.index_sha256));
    indexes.chain(head.files.iter().map(|f| (f.path.clone(), f.bytes, f.sha256))).collect()
}

/// Copies one object from the first source that has it right; a signature only counts by what it signs.
async fn copy_checked(
    target: &dyn Store,
    sources: &[&dyn Store],
    path: &RepoPath,
    max_bytes: u64,
    sha256: Option<Sha256>,
) -> Result<(), Error> {
    let right = |bytes: &Bytes| sha256.is_none_or(|digest| Sha256::of(bytes) == digest);
    if target.get(path, max_bytes).await.is_ok_and(|bytes| right(&bytes)) {
        return Ok(());
    }
    for source in sources {
        match source.get(path, max_bytes).await {
            Ok(bytes) if right(&bytes) => return Ok(target.put_replace(path, bytes).await?),
            _ => {}
        }
    }
    Err(Error::new(ErrorKind::Unverified, format!("no mirror has a good copy of {path}")))
}
