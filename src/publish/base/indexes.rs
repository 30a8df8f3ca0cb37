//! Reads the index of a version from the first mirror that returns it.

use std::sync::Arc;
use std::time::Duration;

use crate::format::head::VersionRow;
use crate::format::index::Index;
use crate::format::name::Name;
use crate::publish::repository::mirror::OpenMirror;
use crate::repo::{self, ReadError, Staggered};

/// How long a mirror may take for an index until the next one is asked too, plus one microsecond per byte.
const WAIT: Duration = Duration::from_secs(5);

/// The result of asking mirrors for an index.
pub struct Search {
    /// The index, from the first mirror with a good copy.
    pub index: Option<Index>,
    /// Mirrors that were asked and failed, and why.
    pub failed: Vec<(usize, ReadError)>,
}

/// Requests the index of a version from these mirrors (by index), one after the other, hedged with the next when one is
/// slow. A mirror that another one overtook is asked last from then on.
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
