//! A mirror's listing, sorted by kind of object. A listing proves nothing: objects that it lacks may exist, and those
//! in it may contain anything.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::format::block::BlockRow;
use crate::format::digest::{BlockId, Sha256};
use crate::format::layout::{Kind, RepoPath};
use crate::format::name::{Name, Version};
use crate::store::{Entry, Store, StoreError, StoreErrorKind};

/// Directories of the blocks and of the indexes.
const BLOCKS: &str = "blocks";
const INDEX: &str = "index";
/// All directories that contain repository objects.
const DIRECTORIES: [&str; 8] = [BLOCKS, INDEX, "retired", "boot", "profile", "client", "update", "deltas"];

/// Listed blocks of a mirror and their compressed sizes.
#[derive(Debug, Default, Clone)]
pub struct BlockListing(HashMap<BlockId, u64>);

/// Objects that a mirror lists.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Images whose heads are listed.
    pub heads: BTreeSet<Name>,
    /// Listed indexes of each image.
    pub indexes: BTreeMap<Name, BTreeMap<RepoPath, Version>>,
    /// Listed blocks.
    pub blocks: BlockListing,
    /// Listed deltas and their sizes in bytes.
    pub deltas: HashMap<Sha256, u64>,
    /// Records of retired versions.
    pub retirements: Vec<RepoPath>,
    /// Indexes, index signatures, and everything that is none of the above.
    pub files: Vec<Entry>,
    /// Number of listed objects.
    pub objects: u64,
    /// Whether the base could not be listed, so that heads are missing here.
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

    /// Whether the block is listed with exactly the published size.
    pub fn holds(&self, row: &BlockRow) -> bool {
        self.bytes(&row.id) == Some(u64::from(row.zlib_bytes))
    }

    /// All blocks and their compressed sizes.
    pub fn blocks(&self) -> impl Iterator<Item = (&BlockId, u64)> {
        self.0.iter().map(|(id, bytes)| (id, *bytes))
    }

    /// Compressed size of the block in bytes, if it is listed.
    pub fn bytes(&self, id: &BlockId) -> Option<u64> {
        self.0.get(id).copied()
    }
}

impl Inventory {
    /// Lists all objects on a mirror.
    ///
    /// # Errors
    /// A mirror that cannot be listed.
    pub async fn of_all(store: &dyn Store) -> Result<Self, StoreError> {
        match store.list("").await {
            Err(e) if e.kind() != StoreErrorKind::Unreachable => Self::of_directories(store).await,
            entries => Ok(Self::sort(entries?)),
        }
    }

    /// Lists only the directories of a repository: access to something beside them may be denied.
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
                Kind::Delta(sha256) => drop(inventory.deltas.insert(sha256, entry.bytes)),
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
