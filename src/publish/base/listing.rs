//! What is known about the blocks of a mirror that its head does not vouch for.

use std::collections::HashSet;

use futures_util::{StreamExt as _, stream};

use crate::error::Error;
use crate::format::digest::BlockId;
use crate::format::index::BlockRow;
use crate::publish::repository::mirror::OpenMirror;
use crate::repo::survey::BlockListing;
use crate::repo::{self, ReadError, ReadErrorKind};
use crate::store::{Store, StoreErrorKind};

/// Of these blocks, those that a mirror does not hold right as far as its listing goes: what is not listed is missing, what
/// is listed with another size than it was published with is read. An encoding of other bytes may be another library's.
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

/// Whether what lies in a block's place is the block.
///
/// # Errors
/// It cannot be read.
pub async fn is_right(store: &dyn Store, row: &BlockRow) -> Result<bool, Error> {
    match repo::block(store, row).await {
        Ok(_) => Ok(true),
        Err(e) if is_damage(&e) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Whether this failure is one of the object, and not one of the mirror.
pub fn is_damage(error: &ReadError) -> bool {
    use StoreErrorKind::{NotFound, TooLong};
    matches!(error.kind(), ReadErrorKind::Unverified | ReadErrorKind::Store(NotFound | TooLong))
}
