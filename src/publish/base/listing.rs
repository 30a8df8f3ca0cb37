//! Checks blocks of a mirror that its head does not vouch for, using its listing.

use std::collections::HashSet;

use futures_util::{StreamExt as _, stream};

use crate::error::Error;
use crate::format::block::BlockRow;
use crate::format::digest::BlockId;
use crate::publish::repository::mirror::OpenMirror;
use crate::repo::survey::BlockListing;
use crate::repo::{self, ReadError, ReadErrorKind};
use crate::store::{Store, StoreErrorKind};

/// Of these blocks, those that a mirror lacks or holds damaged. A block not listed is missing. A block listed with
/// another size than published is read and verified: another zlib may have encoded the same contents.
///
/// # Errors
/// The mirror cannot be reached.
pub async fn not_right(
    mirror: &OpenMirror,
    listing: &BlockListing,
    rows: impl Iterator<Item = &BlockRow>,
) -> Result<HashSet<BlockId>, Error> {
    let (mut wrong, mut odd) = (HashSet::new(), Vec::new());
    for row in rows.filter(|row| !listing.holds(row)) {
        match listing.bytes(&row.id) {
            Some(_) => odd.push(*row),
            None => drop(wrong.insert(row.id)),
        }
    }
    let store = &*mirror.store;
    let reads = odd.into_iter().map(|row| async move { (row.id, is_right(store, &row).await) });
    let mut reads = stream::iter(reads).buffer_unordered(mirror.jobs());
    while let Some((id, right)) = reads.next().await {
        if !right? {
            wrong.insert(id);
        }
    }
    Ok(wrong)
}

/// Whether the object at a block's path is the block.
///
/// # Errors
/// The object cannot be read.
pub async fn is_right(store: &dyn Store, row: &BlockRow) -> Result<bool, Error> {
    match repo::block(store, row).await {
        Ok(_) => Ok(true),
        Err(e) if is_damage(&e) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Whether the failure concerns the object and not the mirror.
pub fn is_damage(error: &ReadError) -> bool {
    use StoreErrorKind::{NotFound, TooLong};
    matches!(error.kind(), ReadErrorKind::Unverified | ReadErrorKind::Store(NotFound | TooLong))
}
