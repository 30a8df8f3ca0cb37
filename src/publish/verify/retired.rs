//! Versions that gc has retired and not yet removed: what is theirs is no stray, it only waits.

use std::collections::{BTreeMap, BTreeSet};

use super::examine;
use super::roster::Shown;
use super::run::Run;
use super::shelf::Shelf;
use crate::layout::RepoPath;
use crate::publish::retired::{RECORD_MAX_BYTES, Retired};

/// Reads the records of all mirrors and puts the blocks of their versions on the shelf; returns the paths of their
/// indexes. A record or an index that cannot be read says nothing.
pub async fn find(run: &Run, shown: &[Option<Shown>], shelf: &Shelf) -> BTreeSet<RepoPath> {
    let mut records: BTreeMap<&RepoPath, Vec<usize>> = BTreeMap::new();
    for (mirror, (look, _)) in shown.iter().enumerate().filter_map(|(i, shown)| Some((i, shown.as_ref()?))) {
        look.retired.iter().for_each(|path| records.entry(path).or_default().push(mirror));
    }
    let mut paths = BTreeSet::new();
    for (record, mirrors) in records {
        for mirror in mirrors {
            let store = &*run.mirrors[mirror].store;
            let text = store.get(record, RECORD_MAX_BYTES).await.ok();
            let Some(Retired { image, row, .. }) = text.and_then(|text| Retired::parse(&text)) else { continue };
            let path = row.index_path(&image);
            let _room = run.budget.room(row.index_bytes).await;
            let file = examine::file(store, &path, row.index_bytes, &row.index_sha256).await;
            if let Ok(Ok(file)) = file {
                shelf.set_aside(&file);
            }
            paths.extend([path.signature(), path]);
        }
    }
    paths
}
