//! What each mirror holds beyond what its head vouches for.

use std::sync::Arc;

use super::{Base, listing};
use crate::error::Error;
use crate::publish::repository::mirror::{self, Presence};
use crate::publish::repository::options::Check;
use crate::publish::repository::{LISTING_PATIENCE, OpenRepository};
use crate::repo::survey::BlockListing;
use crate::system::bridge;

/// Determines what each mirror holds beyond what its head vouches for.
pub async fn look(repository: &mut OpenRepository, base: &mut Base) {
    let left_undone = repository.mirrors.iter_mut().filter(|mirror| mirror.is_up() && mirror.is_unfinished());
    left_undone.for_each(|mirror| mirror.presence = Presence::Likely);
    if repository.config.check == Check::List {
        keep_listed(repository, base).await;
    }
}

/// Counts a block as held by a mirror only if its listing has it with the right size, or it reads back correctly.
async fn keep_listed(repository: &mut OpenRepository, base: &mut Base) {
    let up = mirror::up(&repository.mirrors);
    let (mirrors, known) = (&repository.mirrors, &base.known);
    let lists = up.iter().map(|&i| async move {
        let listing = Arc::new(BlockListing::of(&*mirrors[i].store).await?);
        let held = known.iter().filter(|known| known.holders.contains(i)).map(|known| &known.row);
        let wrong = listing::not_right(&mirrors[i], &listing, held).await?;
        Ok::<_, Error>((listing, wrong))
    });
    let patience = repository.patience(LISTING_PATIENCE);
    let lists = bridge::in_time(lists, patience, Result::is_ok).await;
    for (i, (listing, wrong)) in mirror::settle(&mut repository.mirrors, up, lists, patience) {
        repository.mirrors[i].presence = Presence::Listed(listing);
        base.known.keep(i, |row| !wrong.contains(&row.id));
    }
}
