//! A panic in one request causes EIO for that request only: the mount survives, and so do all other
//! reads.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use async_trait::async_trait;
use hfl::client::extent_map::ExtentMap;
use hfl::client::image::Image;
use hfl::client::mirrors::Mirrors;
use hfl::client::notice::{Observer, Silent};
use hfl::client::serve::mount_point::MountPoint;
use hfl::client::serve::session::{Mount, Mounted};
use hfl::client::source::coalesce::Coalesce;
use hfl::client::source::memory_cache::{MemoryCache, MemoryCached};
use hfl::client::source::mirrors::{Mode, Pace};
use hfl::client::source::{ReadOptions, ReadStack};
use hfl::client::status::Status;
use hfl::format::block::Block;
use hfl::format::block::BlockRow;
use hfl::format::head::Trust;
use hfl::repo::source::Source;
use hfl::repo::{BlockSource, Fetched, Opened, ReadError};
use hfl::store::http::HttpClient;
use tokio::runtime::Runtime;

use crate::support::fixture::{BLOCK_BYTES, Publish, Random, newest};
use crate::support::mounting::cannot_mount;

const BLOCKS: usize = 12;
/// The block whose requests fail.
const BAD: usize = 5;

/// A block source that panics on one block.
#[derive(Debug)]
struct Panicking {
    inner: Arc<dyn BlockSource>,
    bad: BlockRow,
    panics: Arc<AtomicBool>,
    panicked: Arc<AtomicUsize>,
}

#[async_trait]
impl BlockSource for Panicking {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        if *row == self.bad && self.panics.load(SeqCst) {
            self.panicked.fetch_add(1, SeqCst);
            panic!("a mistake in the code");
        }
        self.inner.fetch(row).await
    }
}

/// An image mounted by this process.
struct Lab {
    runtime: Runtime,
    opened: Opened,
    bytes: Vec<u8>,
    cache: Arc<MemoryCache>,
    panics: Arc<AtomicBool>,
    panicked: Arc<AtomicUsize>,
    mounted: Option<Mounted>,
    point: tempfile::TempDir,
    _home: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let (home, point) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bytes = Random(3).bytes(BLOCKS * BLOCK_BYTES);
        Publish::default().write(home.path(), &bytes);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let source: Source = format!("{}/test", home.path().display()).parse().unwrap();
        let sources = Mirrors::new(HttpClient::new().unwrap(), [source.base]);
        let opened = runtime.block_on(hfl::repo::open(sources.stores(), &newest(Trust::Anyone))).unwrap();
        let (panics, panicked) = (Arc::new(AtomicBool::new(true)), Arc::default());
        let mut lab = Self {
            runtime,
            opened,
            bytes,
            cache: Arc::new(MemoryCache::new(1)),
            panics,
            panicked,
            mounted: None,
            point,
            _home: home,
        };
        lab.mount(&sources);
        lab
    }

    fn mount(&mut self, sources: &Mirrors) {
        let observer: Arc<dyn Observer> = Arc::new(Silent);
        let soft = Mode::Soft(Duration::from_secs(5));
        let reading = ReadOptions {
            memory_bytes: 1,
            disk: None,
            base_blocks: Vec::new(),
            parallel: true,
            mode: soft,
            pace: Pace::default(),
        };
        let readable = ReadStack::build(sources, &self.opened, reading, &observer);
        let status = Status::new(&self.opened, &readable, None, soft);
        let status = Status { cache: Arc::clone(&self.cache), ..status };
        let panicking = Panicking {
            inner: readable.network,
            bad: self.row(BAD),
            panics: Arc::clone(&self.panics),
            panicked: Arc::clone(&self.panicked),
        };
        let source = Arc::new(Coalesce::new(MemoryCached::new(Arc::clone(&self.cache), panicking)));
        let mount = Mount {
            name: self.opened.head.image.clone(),
            created: self.opened.row.created,
            origin: "here".into(),
            image: Arc::new(Image::new(
                ExtentMap::new(Arc::clone(&self.opened.index)),
                Arc::clone(&self.cache),
                source,
            )),
            status: Arc::new(status),
            readahead_bytes: 1 << 20,
        };
        let point = MountPoint::check(self.point.path()).unwrap();
        self.mounted = Some(mount.mount(point, self.runtime.handle(), observer).unwrap());
    }

    fn row(&self, block: usize) -> BlockRow {
        self.opened.index.blocks()[block]
    }

    fn file(&self) -> File {
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_DIRECT).open(self.point.path().join("test")).unwrap()
    }

    /// Reads the first page of a block, bypassing the kernel's cache. Returns the error number on
    /// failure.
    fn read(&self, block: usize) -> Result<(), i32> {
        let mut buffer = vec![0; 2 * 4096];
        let skip = buffer.as_ptr().align_offset(4096);
        let page = &mut buffer[skip..skip + 4096];
        let at = block * BLOCK_BYTES;
        self.file().read_exact_at(page, at as u64).map_err(|e| e.raw_os_error().unwrap_or(0))?;
        assert!(*page == self.bytes[at..at + 4096], "wrong bytes of block {block}");
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mounted) = self.mounted.take() {
            self.runtime.block_on(mounted.end()).unwrap();
        }
    }
}

const EIO: Result<(), i32> = Err(5);

#[test]
fn a_panic_while_a_block_is_fetched_is_one_error() {
    if cannot_mount() {
        return;
    }
    let lab = Lab::new();
    for _ in 0..10 {
        for block in 0..BLOCKS {
            assert_eq!(lab.read(block), if block == BAD { EIO } else { Ok(()) }, "block {block}");
        }
    }
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..8).map(|_| scope.spawn(|| lab.read(BAD))).collect();
        assert!(readers.into_iter().all(|reader| reader.join().unwrap() == EIO), "each of many at once");
    });
    lab.panics.store(false, SeqCst);
    assert_eq!(lab.read(BAD), Ok(()), "and nothing of it stays");
    println!("{} panics", lab.panicked.load(SeqCst));
    assert!(lab.panicked.load(SeqCst) >= 10);
}

#[test]
fn a_panic_in_a_thread_that_answers_from_memory_is_one_error() {
    if cannot_mount() {
        return;
    }
    let lab = Lab::new();
    // An impossible state: a block in the memory cache is shorter than its row says.
    let short = Block::of(vec![7; 100]).1;
    for _ in 0..10 {
        lab.cache.keep(&lab.row(BAD), Arc::new(short.clone()));
        assert_eq!(lab.read(BAD), EIO);
        assert_eq!(lab.read(BAD + 1), Ok(()), "this one takes its place");
    }
    lab.panics.store(false, SeqCst);
    assert_eq!(lab.read(BAD), Ok(()));
}
