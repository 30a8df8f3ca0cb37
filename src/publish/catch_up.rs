//! Bringing a mirror that is new or behind up to date, with what the other mirrors hold.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::base::Base;
use super::error::{Error, ErrorKind};
use super::mirror::OpenMirror;
use super::release::Files;
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

/// An index, another file or a signature that a mirror may have to be given.
pub struct OlderFile {
    path: RepoPath,
    /// Its bytes; the most it can have where it is a signature.
    pub bytes: u64,
    /// Its digest; a signature only counts by what it signs.
    sha256: Option<Sha256>,
}

/// The older indexes and files that the base's head names, with their signatures, unless the mirror's own head names them,
/// too.
pub fn older_files(base: &Base, mirror: &OpenMirror, signed: bool) -> Vec<OlderFile> {
    let Some(head) = &base.head else { return Vec::new() };
    let has = |head: &Head| {
        mirror.head.as_ref().is_some_and(|f| f.head.versions == head.versions && f.head.files == head.files)
    };
    if has(head) {
        return Vec::new();
    }
    all_files(base, head, signed)
}

/// Copies to a mirror the older files that it lacks.
///
/// # Errors
/// An object of which no mirror has a good copy.
pub async fn copy_files(base: &Base, mirrors: &[OpenMirror], mirror: usize, signed: bool) -> Result<Files, Error> {
    let target = &mirrors[mirror];
    let files = match &base.head {
        Some(head) if base.damaged.contains(mirror) => all_files(base, head, signed),
        _ => older_files(base, target, signed),
    };
    let sources: Vec<&dyn Store> =
        mirrors.iter().filter(|m| m.head.is_some() && m.is_up()).map(|m| &*m.store).collect();
    let mut copied = Files::default();
    for file in files {
        if let Some(bytes) = copy_checked(&*target.store, &sources, &file).await? {
            copied.add(bytes);
        }
    }
    Ok(copied)
}

fn all_files(base: &Base, head: &Head, signed: bool) -> Vec<OlderFile> {
    let indexes = base.indexes.iter().map(|(row, _)| (row.index_path(&head.image), row.index_bytes, row.index_sha256));
    let files = indexes.chain(head.files.iter().map(|f| (f.path.clone(), f.bytes, f.sha256)));
    let with_signature = files.flat_map(|(path, bytes, sha256)| {
        // A client's signatures are files that the head names.
        let signature = (signed && !path.is_client()).then(|| OlderFile {
            path: path.signature(),
            bytes: SIGNATURE_MAX_BYTES as u64,
            sha256: None,
        });
        [Some(OlderFile { path, bytes, sha256: Some(sha256) }), signature].into_iter().flatten()
    });
    with_signature.collect()
}

/// Copies one object from the first source that has it right; how many bytes, or none where it is there already.
async fn copy_checked(target: &dyn Store, sources: &[&dyn Store], file: &OlderFile) -> Result<Option<u64>, Error> {
    let right = |bytes: &Bytes| file.sha256.is_none_or(|digest| Sha256::of(bytes) == digest);
    if target.get(&file.path, file.bytes).await.is_ok_and(|bytes| right(&bytes)) {
        return Ok(None);
    }
    for source in sources {
        match source.get(&file.path, file.bytes).await {
            Ok(bytes) if right(&bytes) => {
                let copied = bytes.len() as u64;
                target.put_replace(&file.path, bytes).await?;
                return Ok(Some(copied));
            }
            _ => {}
        }
    }
    Err(Error::new(ErrorKind::Unverified, format!("no mirror has a good copy of {}", file.path)))
}
