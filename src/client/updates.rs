//! Gets the updates to the version that is read, from versions whose blocks may be in the cache.

use std::sync::Arc;

use super::notice::{Notice, Observer};
use super::state::local_mirror::LocalMirror;
use crate::format::head::FileRow;
use crate::format::name::Version;
use crate::format::update::Update;
use crate::repo::{self, Opened};
use crate::store::Fetch;

/// The largest update that a mount fetches without being asked, in bytes: 16,000 deltas.
pub const MOUNT_MAX_BYTES: u64 = 4 << 20;

/// How many updates are used where nothing tells which version the old blocks are of.
const NEWEST: usize = 4;

/// The newest older versions that there are updates from.
pub fn newest(opened: &Opened) -> Vec<Version> {
    let mut older: Vec<Version> = Update::rows_in(&opened.head, opened.row.version).map(|(from, _)| from).collect();
    older.sort_unstable_by(|a, b| b.cmp(a));
    older.truncate(NEWEST);
    older
}

/// The older versions whose index is in the local mirror: their blocks may be in the cache.
pub async fn held(opened: &Opened, kept: &LocalMirror) -> Vec<Version> {
    let (head, version, kept) = (opened.head.clone(), opened.row.version, kept.clone());
    let look = move || {
        let older = Update::rows_in(&head, version).filter_map(|(from, _)| head.version(from));
        older.filter(|row| kept.has_index(&head.image, row)).map(|row| row.version).collect()
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// The updates from the versions `held`, from the newest of them first.
pub async fn updates(
    opened: &Opened,
    stores: &[Arc<dyn Fetch>],
    kept: Option<&LocalMirror>,
    held: &[Version],
    max_bytes: u64,
    observer: &dyn Observer,
) -> Vec<Update> {
    let mut rows: Vec<(Version, &FileRow)> = Update::rows_in(&opened.head, opened.row.version).collect();
    rows.retain(|(from, _)| held.contains(from));
    rows.sort_unstable_by_key(|(from, _)| std::cmp::Reverse(*from));
    let mut updates = Vec::new();
    for (_, row) in rows {
        match update(row, stores, kept, max_bytes).await {
            Ok(update) => updates.push(update),
            Err(what) => observer.notice(Notice::DeltasUnusable { what }),
        }
    }
    updates
}

/// One update, from the local mirror or from `stores`; it is stored in the local mirror.
async fn update(
    row: &FileRow,
    stores: &[Arc<dyn Fetch>],
    kept: Option<&LocalMirror>,
    max_bytes: u64,
) -> Result<Update, String> {
    let parse = |file: &[u8]| Update::parse(file).map_err(|e| format!("{}: {e}", row.path));
    let found = match kept {
        Some(kept) if row.bytes <= max_bytes => repo::file(&*kept.store(), row).await.ok(),
        _ => None,
    };
    if let Some(file) = found {
        return parse(&file);
    }
    let file = repo::file_from(stores, row, max_bytes).await.map_err(|why| format!("no deltas are used: {why}"))?;
    if let Some(kept) = kept {
        // Only saves a request the next time.
        let _ = kept.keep_file(&row.path, &file);
    }
    parse(&file)
}
