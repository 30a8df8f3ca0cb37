//! Versions that gc has retired but not yet removed: their objects are not strays.

use std::collections::BTreeSet;

use super::expected::ExpectedBlocks;
use super::objects;
use super::run::Run;
use crate::format::layout::RepoPath;
use crate::publish::repository::LISTING_PATIENCE;
use crate::repo::survey::MirrorView;
use crate::repo::survey::records::{self, RecordState};
use crate::system::bridge;

/// Reads the retirement records of all mirrors and adds the blocks and deltas of those versions to `expected`; returns
/// the paths of their indexes and updates. Ignored are records that do not verify, blocks of unreadable indexes, and
/// mirrors that take much longer than the others.
pub async fn find(run: &Run, views: &[Option<&MirrorView>], expected: &ExpectedBlocks) -> BTreeSet<RepoPath> {
    let shown = views.iter().enumerate().filter_map(|(i, view)| Some((i, (*view)?)));
    let looks = shown.map(|(mirror, view)| of_mirror(run, mirror, view, expected));
    let found = bridge::in_time(looks, LISTING_PATIENCE, |_| true).await;
    found.into_iter().flatten().flatten().collect()
}

async fn of_mirror(run: &Run, mirror: usize, view: &MirrorView, expected: &ExpectedBlocks) -> BTreeSet<RepoPath> {
    let (mut paths, store) = (BTreeSet::new(), &*run.mirrors()[mirror].store);
    for state in records::read(store, &view.inventory.retirements, &run.options.policy).await.into_values() {
        let RecordState::Verified(found) = state else { continue };
        let (row, image) = (&found.retirement.row, &found.retirement.image);
        let path = row.index_path(image);
        let _room = run.budget.room(row.index_bytes).await;
        if let Ok(Ok(file)) = objects::file(store, &path, row.index_bytes, &row.index_sha256).await {
            expected.set_aside(&file);
        }
        paths.extend([path.signature(), path]);
        for file in found.retirement.files.iter().filter(|file| file.path.is_update()) {
            paths.extend([file.path.signature(), file.path.clone()]);
            let _room = run.budget.room(file.bytes).await;
            if let Ok(Ok(update)) = objects::file(store, &file.path, file.bytes, &file.sha256).await {
                // One that cannot be read only leaves its deltas to be called strays.
                let _ = expected.take_update(None, &update);
            }
        }
    }
    paths
}
