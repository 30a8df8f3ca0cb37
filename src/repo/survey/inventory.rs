//! A listing of a mirror, sorted by what the objects are. A listing proves nothing: what it lacks may be there all the same,
//! and what it has may be anything.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::format::digest::BlockId;
use crate::format::index::BlockRow;
use crate::format::layout::{Kind, RepoPath};
use crate::format::name::{Name, Version};
use crate::store::{Entry, Store, StoreError, StoreErrorKind};

/// The directory of the blocks, and that of the indexes.
const BLOCKS: &str = "blocks";
const INDEX: &str = "index";
/// All directories in which something of a repository lies.
const DIRECTORIES: [&str; 6] = [BLOCKS, INDEX, "retired", "boot", "profile", "client"];

/// The blocks of a mirror and the bytes of their files, as a listing has them.
#[derive(Debug, Default, Clone)]
pub struct BlockListing(HashMap<BlockId, u64>);

/// What a mirror lists.
#[derive(Debug, Default)]
pub struct Inventory {
    /// The images whose heads are listed.
    pub heads: BTreeSet<Name>,
    /// The indexes of each image that are listed.
    pub indexes: BTreeMap<Name, BTreeMap<RepoPath, Version>>,
    /// The blocks that are listed.
    pub blocks: BlockListing,
    /// The records of retired versions.
    pub retirements: Vec<RepoPath>,
    /// Indexes and signatures of indexes, and everything that is none of the above.
    pub files: Vec<Entry>,
    /// How many objects are listed.
    pub objects: u64,
    /// Whether the base could not be listed, and so no heads are.
    pub lacks_heads: bool,
}

impl FromIterator<(BlockId, u64)> for BlockListing {
    fn from_iter<I: IntoIterator<Item = (BlockId, u64)>>(blocks: I) -> Self {
        Self(blocks.into_iter().collect())
    }
}

impl BlockListing {
    /// Lists the blocks of a store.
    ///
    /// # Errors
    /// A store that cannot be listed.
    pub async fn of(store: &dyn Store) -> Result<Self, StoreError> {
        Ok(Inventory::sort(store.list(BLOCKS).await?).blocks)
    }

    /// Whether a file of exactly the published size is listed.
    pub fn holds(&self, row: &BlockRow) -> bool {
        self.bytes(&row.id) == Some(u64::from(row.zlib_bytes))
    }

    /// Every block and the bytes of its file.
    pub fn blocks(&self) -> impl Iterator<Item = (&BlockId, u64)> {
        self.0.iter().map(|(id, bytes)| (id, *bytes))
    }

    /// Bytes of the block's file, if it is listed.
    pub fn bytes(&self, id: &BlockId) -> Option<u64> {
        self.0.get(id).copied()
    }
}

impl Inventory {
    /// Lists everything on a mirror.
    ///
    /// # Errors
    /// A mirror that cannot be listed.
    pub async fn of_all(store: &dyn Store) -> Result<Self, StoreError> {
        match store.list("").await {
            Err(e) if e.kind() != StoreErrorKind::Unreachable => Self::of_directories(store).await,
            entries => Ok(Self::sort(entries?)),
        }
    }

    /// Lists what lies in the directories of a repository. Something beside them may be closed to us.
    async fn of_directories(store: &dyn Store) -> Result<Self, StoreError> {
        let mut entries = Vec::new();
        for directory in DIRECTORIES {
            entries.extend(store.list(directory).await?);
        }
        Ok(Self { lacks_heads: true, ..Self::sort(entries) })
    }

    /// Lists the indexes of one image.
    ///
    /// # Errors
    /// A mirror that cannot be listed.
    pub async fn of_indexes(store: &dyn Store, image: &Name) -> Result<Self, StoreError> {
        Ok(Self::sort(store.list(&format!("{INDEX}/{image}")).await?))
    }

    fn sort(entries: Vec<Entry>) -> Self {
        let mut inventory = Self { objects: entries.len() as u64, ..Self::default() };
        for entry in entries {
            match entry.path.kind() {
                Kind::Block(id) => drop(inventory.blocks.0.insert(id, entry.bytes)),
                Kind::Head(name) => drop(inventory.heads.insert(name)),
                Kind::Retirement(..) => inventory.retirements.push(entry.path),
                Kind::Index(image, version, _) => {
                    inventory.indexes.entry(image).or_default().insert(entry.path.clone(), version);
                    inventory.files.push(entry);
                }
                Kind::Images | Kind::Lock => {}
                Kind::IndexSignature(..) | Kind::File => inventory.files.push(entry),
            }
        }
        inventory
    }
}
