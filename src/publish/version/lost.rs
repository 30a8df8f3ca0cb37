//! Files that nothing depends on, and of which no mirror has a good copy: they must not keep a mirror behind.

use futures_util::{StreamExt as _, stream};

use crate::format::digest::Sha256;
use crate::format::head::{FileRow, Head};
use crate::format::layout::RepoPath;
use crate::format::update::{DeltaRow, Update};
use crate::publish::repository::mirror::OpenMirror;
use crate::publish::repository::options::Check;
use crate::repo::survey::Flaw;

/// Deltas that are looked for at the same time.
const LOOKS_AT_ONCE: usize = 16;

/// The updates and profiles of `head` that each mirror which is up was asked for in vain, or an update with such a delta.
/// A mirror that cannot be reached says nothing. Asked for are those that have to be copied to some mirror; with
/// [`Check::List`], all, and their deltas.
pub async fn lost(head: &Head, mirrors: &[OpenMirror], check: Check) -> Vec<FileRow> {
    let up: Vec<&OpenMirror> = mirrors.iter().filter(|mirror| mirror.is_up()).collect();
    let names =
        |mirror: &OpenMirror, row: &FileRow| mirror.head.as_ref().is_some_and(|own| own.head.files.contains(row));
    let mut lost = Vec::new();
    for row in head.files.iter().filter(|row| row.path.is_optional()) {
        let has_all = check == Check::List;
        if !has_all && up.iter().all(|mirror| names(mirror, row)) {
            continue;
        }
        let is_lost = match found(&up, row).await {
            Found::Nowhere => true,
            Found::Unknown => false,
            Found::Here(file) => has_all && row.path.is_update() && lacks_deltas(&up, &file).await,
        };
        if is_lost {
            lost.push(row.clone());
        }
    }
    lost
}

/// What the mirrors say about a file.
enum Found {
    Here(bytes::Bytes),
    Nowhere,
    /// None has it, but some could not be asked.
    Unknown,
}

async fn found(mirrors: &[&OpenMirror], row: &FileRow) -> Found {
    let mut found = Found::Nowhere;
    for mirror in mirrors {
        match mirror.store.get(&row.path, row.bytes).await {
            Ok(file) if Sha256::of(&file) == row.sha256 => return Found::Here(file),
            Ok(_) => {}
            Err(e) => {
                if Flaw::of(e).is_err() {
                    found = Found::Unknown;
                }
            }
        }
    }
    found
}

/// Whether some delta of an update is on no mirror.
async fn lacks_deltas(mirrors: &[&OpenMirror], file: &[u8]) -> bool {
    let Ok(update) = Update::parse(file) else { return false };
    let looks = stream::iter(update.deltas()).map(|delta| is_nowhere(mirrors, delta)).buffer_unordered(LOOKS_AT_ONCE);
    looks.any(|is_nowhere| async move { is_nowhere }).await
}

async fn is_nowhere(mirrors: &[&OpenMirror], delta: &DeltaRow) -> bool {
    let path = RepoPath::delta(&delta.sha256);
    for mirror in mirrors {
        match mirror.store.size(&path).await {
            Ok(bytes) if bytes == Some(delta.bytes.into()) => return false,
            Ok(_) => {}
            Err(e) => {
                if Flaw::of(e).is_err() {
                    return false;
                }
            }
        }
    }
    true
}
