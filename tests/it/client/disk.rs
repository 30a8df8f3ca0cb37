//! The disk cache: a block's file may hold anything, and the cache stays within its size limit.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use hfl::client::notice::Silent;
use hfl::client::source::disk_cache::{DiskCache, DiskStore};
use hfl::format::block::BlockRow;
use hfl::format::index::Index;
use hfl::format::layout::RepoPath;
use hfl::repo::{BlockSource, Fetched, Mirror, ReadError};
use hfl::store::directory::Directory;
use tempfile::TempDir;

use crate::support::fixture::{Publish, image};

/// A mirror that counts fetched blocks.
#[derive(Debug)]
struct Counting(Mirror, Arc<AtomicUsize>);

#[async_trait]
impl BlockSource for Counting {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.fetch(row).await
    }
}

/// A repository, a cache in front of it, and its counters.
struct Lab {
    directory: TempDir,
    index: Index,
    fetched: Arc<AtomicUsize>,
    limit: u64,
}

impl Lab {
    fn new(image_bytes: usize, limit: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let index = Publish::default().write(&directory.path().join("mirror"), &image(image_bytes));
        Self { directory, index, fetched: Arc::default(), limit }
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    fn file(&self, block: usize) -> PathBuf {
        self.cache().join(RepoPath::block(&self.index.blocks()[block].id).as_str())
    }

    fn open(&self) -> (Arc<DiskStore>, DiskCache<Counting>) {
        let mirror = Mirror::new(Arc::new(Directory::new(self.directory.path().join("mirror"))));
        let store = DiskStore::open(&self.cache(), self.limit, Arc::new(Silent)).unwrap();
        (Arc::clone(&store), DiskCache::new(store, Counting(mirror, Arc::clone(&self.fetched))))
    }

    /// Reads all blocks through a new cache object. Returns the numbers of fetched blocks and of damaged
    /// files.
    async fn read_all(&self) -> (usize, u64) {
        let (store, cache) = self.open();
        let before = self.fetched.load(Ordering::SeqCst);
        for row in self.index.blocks() {
            let block = tokio::time::timeout(Duration::from_secs(10), cache.block(row)).await;
            assert_eq!(block.expect("no hang").unwrap().len(), row.bytes as usize);
        }
        store.settle(Duration::from_secs(10)).await;
        (self.fetched.load(Ordering::SeqCst) - before, store.repairs())
    }
}

fn replace(path: &Path, with: impl FnOnce(&Path)) {
    fs::remove_file(path).unwrap();
    with(path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_are_fetched_once_and_bad_files_are_healed() {
    let lab = Lab::new(8 << 20, 1 << 30);
    let all = lab.index.blocks().len();
    assert!(all >= 6, "{all} blocks are too few for this test");
    assert_eq!(lab.read_all().await, (all, 0), "the first time");
    assert_eq!(lab.read_all().await, (0, 0), "from the disk");

    let mut flipped = fs::read(lab.file(0)).unwrap();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    fs::write(lab.file(0), flipped).unwrap();
    fs::OpenOptions::new().write(true).open(lab.file(1)).unwrap().set_len(5).unwrap();
    replace(&lab.file(2), |path| fs::create_dir(path).unwrap());
    replace(&lab.file(3), |path| symlink("/etc/passwd", path).unwrap());
    replace(&lab.file(4), |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success()));
    fs::write(lab.file(5), "").unwrap();
    assert_eq!(lab.read_all().await, (6, 6), "six are bad");
    assert_eq!(lab.read_all().await, (0, 0), "and healed");
    println!("{all} blocks, 6 damaged, 6 healed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_those_of_a_mirror() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new(2 << 20, 1 << 30);
    lab.read_all().await;
    for row in lab.index.blocks() {
        let path = RepoPath::block(&row.id);
        let cached = lab.cache().join(path.as_str());
        assert_eq!(
            fs::read(&cached).unwrap(),
            fs::read(lab.directory.path().join("mirror").join(path.as_str())).unwrap()
        );
        assert_eq!(fs::metadata(&cached).unwrap().permissions().mode() & 0o777, 0o644);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_files_go_when_there_are_too_many() {
    let mut lab = Lab::new(8 << 20, 1 << 30);
    lab.read_all().await;
    let all = lab.index.blocks().len();
    let bytes = |lab: &Lab| (0..all).filter_map(|b| fs::metadata(lab.file(b)).ok()).map(|m| m.len()).sum::<u64>();
    let before = bytes(&lab);
    for block in 0..all {
        let age = Duration::from_secs(3600 * (1 + block as u64));
        fs::File::open(lab.file(block)).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }
    lab.limit = before / 2;
    let _running = lab.open();
    let deadline = SystemTime::now() + Duration::from_secs(10);
    while bytes(&lab) > lab.limit && SystemTime::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{before} bytes, limit {}, left {}", lab.limit, bytes(&lab));
    assert!(bytes(&lab) <= lab.limit && bytes(&lab) > lab.limit / 4);
    let held: Vec<bool> = (0..all).map(|b| lab.file(b).exists()).collect();
    assert!(held.is_sorted_by_key(|held| !held), "the newest stay: {held:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_cannot_be_written_only_caches_nothing() {
    let lab = Lab::new(2 << 20, 1 << 30);
    drop(lab.open());
    fs::write(lab.cache().join("blocks"), "in the way").unwrap();
    let all = lab.index.blocks().len();
    assert_eq!(lab.read_all().await.0, all);
    assert_eq!(lab.read_all().await.0, all);
}
