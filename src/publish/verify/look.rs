//! A first look at a mirror: its list of images, and a listing of all that lies there.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::ledger::Flaw;
use super::problem::ProblemKind;
use crate::layout::{Kind, RepoPath};
use crate::name::Name;
use crate::publish::base::IMAGES_MAX_BYTES;
use crate::publish::error::Error;
use crate::publish::presence::Listing;
use crate::store::{Entry, Store, StoreErrorKind};

/// Where these records lie.
const RETIRED: &str = "retired/";

/// What a mirror shows of itself.
#[derive(Debug, Default)]
pub struct Look {
    /// Its list of images, where it could be read.
    pub images: Option<Bytes>,
    /// The names in it.
    pub names: BTreeSet<Name>,
    /// What is wrong with the list, apart from what it leaves out.
    pub flaw: Option<Flaw>,
    /// The images whose heads are listed.
    pub heads: BTreeSet<Name>,
    /// The blocks that are listed.
    pub blocks: Listing,
    /// The records of versions that gc has retired.
    pub retired: Vec<RepoPath>,
    /// Everything else that may turn out to be stray: indexes, other files among the blocks, leftovers of probing.
    pub others: Vec<Entry>,
    /// Why there is no listing.
    pub unlisted: Option<String>,
}

/// Looks at a mirror.
///
/// # Errors
/// A mirror that cannot be reached, or does not let anybody in.
pub async fn look(store: &dyn Store) -> Result<Look, Error> {
    let mut look = Look::default();
    match store.get(&RepoPath::images(), IMAGES_MAX_BYTES).await {
        Ok(file) => look.read_images(file),
        Err(e) if e.kind() == StoreErrorKind::NotFound => {}
        Err(e) if e.kind() == StoreErrorKind::TooLong => look.flaw = Some(Flaw::of(e)?),
        Err(e) => return Err(e.into()),
    }
    // Something else beside the repository may be closed to us; what matters most lies in one directory.
    let entries = match store.list("").await {
        Ok(entries) => Ok(entries),
        Err(_) => store.list("blocks").await,
    };
    match entries {
        Ok(entries) => look.read_entries(entries),
        Err(e) if e.kind() == StoreErrorKind::Unreachable => return Err(e.into()),
        Err(e) => look.unlisted = Some(e.why().to_owned()),
    }
    Ok(look)
}

impl Look {
    fn read_images(&mut self, file: Bytes) {
        for line in String::from_utf8_lossy(&file).lines() {
            match line.parse() {
                Ok(name) => drop(self.names.insert(name)),
                Err(e) => {
                    let shown: String = line.chars().take(40).collect();
                    let flaw = Flaw::new(ProblemKind::Wrong, format!("{shown:?} is no name of an image: {e}"));
                    self.flaw.get_or_insert(flaw);
                }
            }
        }
        self.images = Some(file);
    }

    fn read_entries(&mut self, entries: Vec<Entry>) {
        let mut blocks = Vec::new();
        for entry in entries {
            match entry.path.kind() {
                Kind::Block(id) => blocks.push((id, entry.bytes)),
                Kind::Head(name) => drop(self.heads.insert(name)),
                Kind::Index(..) | Kind::IndexSignature(..) => self.others.push(entry),
                Kind::File if entry.path.as_str().starts_with(RETIRED) => self.retired.push(entry.path),
                Kind::File if may_be_stray(entry.path.as_str()) => self.others.push(entry),
                Kind::File | Kind::Images => {}
            }
        }
        self.blocks = blocks.into_iter().collect();
    }
}

fn may_be_stray(path: &str) -> bool {
    ["blocks/", "index/", crate::publish::probe::PREFIX].iter().any(|prefix| path.starts_with(prefix))
}
