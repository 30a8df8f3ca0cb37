//! The index of a version, from whichever mirror gives it first.

use std::sync::Arc;
use std::time::Duration;

use crate::format::head::VersionRow;
use crate::format::index::Index;
use crate::format::name::Name;
use crate::publish::repository::mirror::OpenMirror;
use crate::repo::{self, ReadError, Staggered};

/// How long a mirror may take for an index until the next one is asked as well; besides, a microsecond for each byte.
const WAIT: Duration = Duration::from_secs(5);

/// What came of asking mirrors for an index.
pub struct Search {
    /// The index, from the first that had it right.
    pub index: Option<Index>,
    /// Those that were asked and had it not, and why.
    pub failed: Vec<(usize, ReadError)>,
}

/// Asks these mirrors (by their place) for the index of a version, one after the other, and the next one besides where one
/// takes its time. Who only keeps others waiting is asked last from then on.
pub async fn find(
    mirrors: &[OpenMirror],
    which: impl IntoIterator<Item = usize>,
    image: &Name,
    row: &VersionRow,
) -> Search {
    let mut order: Vec<usize> = which.into_iter().collect();
    order.sort_by_key(|&i| mirrors[i].is_slow());
    let ask = |&i: &usize| {
        let (store, image, row) = (Arc::clone(&mirrors[i].store), image.clone(), row.clone());
        async move { (i, repo::index(&*store, &image, &row).await) }
    };
    let mut asked = Staggered::new(order.iter().map(ask), 1, WAIT + Duration::from_micros(row.index_bytes));
    let mut failed = Vec::new();
    while let Some((i, answer)) = asked.next().await {
        match answer {
            Ok(index) => {
                let before = order.iter().take_while(|&&other| other != i);
                let waiting = before.filter(|&&other| failed.iter().all(|(answered, _)| *answered != other));
                waiting.for_each(|&other| mirrors[other].note_slow());
                return Search { index: Some(index), failed };
            }
            Err(e) => failed.push((i, e)),
        }
    }
    Search { index: None, failed }
}
