//! Files that nothing depends on, and of which no mirror has a good copy: they must not keep a mirror behind.

use futures_util::{StreamExt as _, stream};

use crate::format::digest::Sha256;
use crate::format::head::{FileRow, Head};
use crate::publish::repository::mirror::OpenMirror;
use crate::publish::repository::options::Check;
use crate::repo::survey::Flaw;

/// The updates and profiles of `head` that each mirror which is up was asked for in vain. A mirror that cannot be reached
/// says nothing. Asked for are those that have to be copied to some mirror; with [`Check::List`], all.
pub async fn lost(head: &Head, mirrors: &[OpenMirror], check: Check) -> Vec<FileRow> {
    let up = || mirrors.iter().filter(|mirror| mirror.is_up());
    let names =
        |mirror: &OpenMirror, row: &FileRow| mirror.head.as_ref().is_some_and(|own| own.head.files.contains(row));
    let is_asked =
        |row: &&FileRow| row.path.is_optional() && (check == Check::List || !up().all(|mirror| names(mirror, row)));
    stream::iter(head.files.iter().filter(is_asked))
        .filter(|row| async { stream::iter(up()).all(|mirror| is_lost(mirror, row)).await })
        .map(Clone::clone)
        .collect()
        .await
}

async fn is_lost(mirror: &OpenMirror, row: &FileRow) -> bool {
    match mirror.store.get(&row.path, row.bytes).await {
        Ok(file) => Sha256::of(&file) != row.sha256,
        Err(e) => Flaw::of(e).is_ok(),
    }
}
