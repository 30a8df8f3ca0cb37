//! The blocks and deltas that mirrors must hold, collected from the indexes while these are checked.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use super::stored::Stored;
use crate::error::Error;
use crate::format::block::BlockRow;
use crate::format::digest::{BlockId, Sha256};
use crate::format::head::VersionRow;
use crate::format::index::Index;
use crate::format::name::Name;
use crate::format::update::Update;
use crate::publish::base::block_holders::{BlockHolders, MirrorSet};
use crate::repo::survey::{Flaw, ProblemKind};
use crate::split::Rule;

/// The blocks of all indexes read so far, and the mirrors that must hold them.
#[derive(Debug, Default)]
pub struct ExpectedBlocks {
    /// Maps the digest of an index to the mirrors whose heads name it.
    promised: HashMap<Sha256, MirrorSet>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    known: BlockHolders,
    indexes: HashSet<Sha256>,
    /// Deltas, their sizes in bytes, and the mirrors that must hold them: none for those of retired versions.
    deltas: HashMap<Sha256, (u32, MirrorSet)>,
    /// Blocks of retired versions.
    waiting: HashSet<BlockId>,
    /// Split rules of the images.
    rules: Vec<Rule>,
}

impl ExpectedBlocks {
    /// Records that the head of `mirror` names this version.
    pub fn promise(&mut self, row: &VersionRow, mirror: usize) {
        let mirrors = self.promised.entry(row.index_sha256).or_default();
        *mirrors = mirrors.with(mirror);
    }

    /// Adds an index whose digest is verified; returns what else is wrong with it.
    ///
    /// # Errors
    /// A SHA-1 collision between blocks of two indexes.
    pub fn take(&self, image: &Name, row: &VersionRow, file: &[u8]) -> Result<Option<Flaw>, Error> {
        if self.has(row) {
            return Ok(None);
        }
        let wrong = |what: String| Ok(Some(Flaw::new(ProblemKind::Wrong, what)));
        let index = match Index::parse(file) {
            Ok(index) => index,
            Err(e) => return wrong(e.to_string()),
        };
        let header = index.header();
        if header.image != *image || header.version != row.version || header.size != row.size {
            return wrong(format!("this is the index of {} version {}", header.image, header.version));
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.indexes.insert(row.index_sha256) {
            // An unknown split rule is skipped: its blocks cannot be cut from a seed.
            if let Ok(rule) = Rule::try_from(&header.split)
                && !taken.rules.contains(&rule)
            {
                taken.rules.push(rule);
            }
            let mirrors = self.promised.get(&row.index_sha256).copied().unwrap_or_default();
            mirrors.iter().try_for_each(|mirror| taken.known.add(&index, mirror))?;
        }
        Ok(None)
    }

    /// Split rules of the images.
    pub fn rules(&self) -> Vec<Rule> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).rules.clone()
    }

    /// Whether this index has been added.
    pub fn has(&self, row: &VersionRow) -> bool {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).indexes.contains(&row.index_sha256)
    }

    /// Adds an update whose digest is verified, and which the head of `mirror` names; returns what else is wrong with
    /// it.
    pub fn take_update(&self, mirror: Option<usize>, file: &[u8]) -> Option<Flaw> {
        let update = match Update::parse(file) {
            Ok(update) => update,
            Err(e) => return Some(Flaw::new(ProblemKind::Wrong, e.to_string())),
        };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for delta in update.deltas() {
            let (_, holders) = taken.deltas.entry(delta.sha256).or_insert((delta.bytes, MirrorSet::default()));
            *holders = mirror.map_or(*holders, |mirror| holders.with(mirror));
        }
        None
    }

    /// Whether any update lists this delta.
    pub fn lists(&self, sha256: &Sha256) -> bool {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).deltas.contains_key(sha256)
    }

    /// The blocks and deltas that `mirror` must hold, each kind sorted by name.
    pub fn of_mirror(&self, mirror: usize) -> Vec<Stored> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let held = taken.deltas.iter().filter(|(_, (_, holders))| holders.contains(mirror));
        let mut deltas: Vec<(Sha256, u32)> = held.map(|(sha256, (bytes, _))| (*sha256, *bytes)).collect();
        drop(taken);
        deltas.sort_unstable();
        let blocks = self.blocks(mirror).into_iter().map(Stored::from);
        blocks.chain(deltas.into_iter().map(|(sha256, bytes)| Stored::Delta { sha256, bytes })).collect()
    }

    /// The blocks that `mirror` must hold, sorted by ID.
    fn blocks(&self, mirror: usize) -> Vec<BlockRow> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let held = taken.known.iter().filter(|known| known.holders.contains(mirror));
        let mut rows: Vec<BlockRow> = held.map(|known| known.row).collect();
        rows.sort_unstable_by_key(|row| row.id);
        rows
    }

    /// Adds the index of a version that no head names any more.
    pub fn set_aside(&self, file: &[u8]) {
        if let Ok(index) = Index::parse(file) {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.waiting.extend(index.blocks().iter().map(|row| row.id));
        }
    }

    /// Whether any index names this block.
    pub fn names(&self, id: &BlockId) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.known.get(id).is_some() || taken.waiting.contains(id)
    }
}
