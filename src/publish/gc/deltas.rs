//! Deltas that nothing names any more: those in the updates of due versions, unless a living update lists them too.

use std::collections::BTreeMap;

use crate::format::digest::Sha256;
use crate::format::head::FileRow;
use crate::format::name::Name;
use crate::format::retirement::Retirement;
use crate::format::update::{FILE_MAX_BYTES, Update};
use crate::publish::repository::OpenRepository;
use crate::publish::repository::mirror;

/// Deltas to remove.
#[derive(Debug, Default)]
pub(super) struct DeadDeltas {
    /// Their SHA-256 and sizes in bytes.
    pub files: BTreeMap<Sha256, u32>,
    /// Updates that cannot be read, and what follows.
    pub warnings: Vec<String>,
}

/// Finds the dead deltas: `due` are the versions that are removed, `pending` those in their grace period. Updates are
/// read one at a time.
pub(super) async fn find<'a>(
    repository: &'a OpenRepository,
    due: impl Iterator<Item = &'a Retirement>,
    pending: impl Iterator<Item = &'a Retirement>,
) -> DeadDeltas {
    let mut dead = DeadDeltas::default();
    for retirement in due {
        for row in updates(&retirement.image, &retirement.files) {
            match read(repository, row).await {
                Ok(update) => dead.files.extend(update.deltas().iter().map(|delta| (delta.sha256, delta.bytes))),
                Err(why) => dead.warnings.push(format!("{why}; its deltas stay")),
            }
        }
    }
    if dead.files.is_empty() {
        return dead;
    }
    for (image, row) in living(repository, pending) {
        match read(repository, &row).await {
            Ok(update) => update.deltas().iter().for_each(|delta| _ = dead.files.remove(&delta.sha256)),
            Err(why) => {
                dead.warnings.push(format!("{image}: {why}; all deltas are kept for now"));
                dead.files.clear();
                return dead;
            }
        }
    }
    dead
}

/// The updates that a verified head or a version in its grace period names.
fn living<'a>(repository: &'a OpenRepository, pending: impl Iterator<Item = &'a Retirement>) -> Vec<(Name, FileRow)> {
    let heads = repository.current_heads();
    let of_heads = heads.into_iter().flat_map(|(_, name, head)| updates(name, &head.files).map(move |row| (name, row)));
    let of_pending = pending.flat_map(|r| updates(&r.image, &r.files).map(|row| (&r.image, row)));
    let all = of_heads.chain(of_pending).map(|(name, row)| (row.path.clone(), (name.clone(), row.clone())));
    all.collect::<BTreeMap<_, _>>().into_values().collect()
}

fn updates<'a>(image: &Name, files: &'a [FileRow]) -> impl Iterator<Item = &'a FileRow> {
    files.iter().filter(move |row| row.path.update_of(image).is_some())
}

async fn read(repository: &OpenRepository, row: &FileRow) -> Result<Update, String> {
    let file = mirror::file(&repository.mirrors, row, FILE_MAX_BYTES).await.map_err(|e| e.to_string())?;
    Update::parse(&file).map_err(|e| format!("{}: {e}", row.path))
}
