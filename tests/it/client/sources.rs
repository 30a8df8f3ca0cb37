//! Each wrapper around a block source, on a source that counts requests and fails on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hfl::client::notice::Silent;
use hfl::client::source::coalesce::Coalesce;
use hfl::client::source::memory_cache::{MemoryCache, MemoryCached};
use hfl::client::source::mirrors::{Deadline, Mode, Persistent};
use hfl::client::source::serial::Serial;
use hfl::format::block::BlockRow;
use hfl::format::block::{Block, digests};
use hfl::format::head::Trust;
use hfl::repo::{BlockSource, Fetched, ReadError, ReadErrorKind};
use hfl::store::Fetch;
use hfl::store::directory::Directory;

use crate::support::fixture::{Publish, image, newest};

/// A slow block source that counts requests.
#[derive(Debug, Default)]
struct Counting {
    asked: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    fails: AtomicBool,
}

fn row(content: &[u8]) -> BlockRow {
    let (id, sha256) = digests(content);
    BlockRow { id, sha256, bytes: content.len() as u32, zlib_bytes: 1 }
}

#[async_trait]
impl BlockSource for Counting {
    async fn fetch(&self, row: &BlockRow) -> Result<Fetched, ReadError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        let block =
            (0..32u8).map(|n| Block::of(vec![n; 100])).find(|(sha256, _)| *sha256 == row.sha256).map(|found| found.1);
        let block = block.filter(|_| !self.fails.load(Ordering::SeqCst));
        block.map(|block| Arc::new(block).into()).ok_or_else(ReadError::no_source)
    }
}

impl Counting {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Requests all of `rows` from `source` concurrently. Returns the number of successful answers.
async fn ask<S: BlockSource + 'static>(source: &Arc<S>, rows: &[BlockRow]) -> usize {
    let tasks: Vec<_> = rows
        .iter()
        .map(|&row| {
            let source = Arc::clone(source);
            tokio::spawn(async move { source.block(&row).await.is_ok() })
        })
        .collect();
    let mut good = 0;
    for task in tasks {
        good += usize::from(task.await.unwrap());
    }
    good
}

#[tokio::test]
async fn many_readers_of_one_block_are_one_fetch() {
    let inner = Arc::new(Counting::default());
    let source = Arc::new(Coalesce::new(Arc::clone(&inner)));
    assert_eq!(ask(&source, &[row(&[1; 100]); 50]).await, 50);
    assert_eq!(inner.asked(), 1);
    inner.fails.store(true, Ordering::SeqCst);
    assert_eq!(ask(&source, &[row(&[1; 100]); 50]).await, 0, "all hear of the failure");
    assert_eq!(inner.asked(), 2, "and it is asked for once");
    inner.fails.store(false, Ordering::SeqCst);
    assert_eq!(ask(&source, &[row(&[1; 100]); 2]).await, 2, "a failure is not kept");
}

#[tokio::test]
async fn a_reader_that_goes_away_leaves_the_fetch_to_the_others() {
    let source = Arc::new(Coalesce::new(Counting::default()));
    let first = tokio::spawn({
        let source = Arc::clone(&source);
        async move { source.block(&row(&[2; 100])).await }
    });
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = tokio::spawn({
        let source = Arc::clone(&source);
        async move { source.block(&row(&[2; 100])).await }
    });
    tokio::time::sleep(Duration::from_millis(5)).await;
    first.abort();
    assert!(second.await.unwrap().is_ok());
}

#[tokio::test]
async fn decoded_blocks_are_kept_up_to_the_limit() {
    let inner = Arc::new(Counting::default());
    let source = Arc::new(MemoryCached::new(Arc::new(MemoryCache::new(250)), Arc::clone(&inner)));
    for block in [1, 2, 1, 2, 3, 2, 1] {
        assert_eq!(ask(&source, &[row(&[block; 100])]).await, 1);
    }
    assert_eq!(inner.asked(), 4, "1, 2, 3 once, and 1 again after it had to go");
}

#[tokio::test]
async fn what_is_expected_goes_last_but_not_never() {
    let cache = Arc::new(MemoryCache::new(400));
    let source = Arc::new(MemoryCached::new(Arc::clone(&cache), Arc::new(Counting::default())));
    let rows: Vec<BlockRow> = (0..20u8).map(|n| row(&[n; 100])).collect();
    let keep = async |row: &BlockRow| assert_eq!(ask(&source, &[*row]).await, 1);
    let held = || (0..20).filter(|&place| cache.contains(&rows[place])).collect::<Vec<_>>();
    for row in &rows[..3] {
        keep(row).await;
        cache.expect(row);
    }
    keep(&rows[3]).await;
    keep(&rows[4]).await;
    assert_eq!(
        held(),
        [1, 2, 3, 4],
        "half of the memory is for what is expected: the first of three is one like others"
    );
    assert!(cache.get(&rows[2]).is_some());
    keep(&rows[5]).await;
    keep(&rows[6]).await;
    assert_eq!(held(), [1, 2, 5, 6], "1 is still expected, 2 was read and is newer than 3 and 4");
    keep(&rows[7]).await;
    assert_eq!(held(), [1, 5, 6, 7]);
    for row in &rows[8..12] {
        keep(row).await;
    }
    assert_eq!(held(), [8, 9, 10, 11], "nobody came for 1");
}

#[tokio::test]
async fn one_at_a_time_is_that() {
    let inner = Arc::new(Counting::default());
    let source = Arc::new(Serial::new(Arc::clone(&inner)));
    let rows: Vec<BlockRow> = (0..5u8).map(|n| row(&[n; 100])).collect();
    assert_eq!(ask(&source, &rows).await, 5);
    assert_eq!(inner.most_at_once.load(Ordering::SeqCst), 1);
}

/// A block source that panics, or never answers.
#[derive(Debug)]
struct Hopeless(bool);

#[async_trait]
impl BlockSource for Hopeless {
    async fn fetch(&self, _row: &BlockRow) -> Result<Fetched, ReadError> {
        assert!(!self.0, "a mistake in the code");
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_source_that_panics_or_never_answers_has_failed() {
    for panics in [true, false] {
        let source = Deadline::new(Hopeless(panics), "x".into(), Duration::from_millis(50));
        let error = source.block(&row(&[1; 100])).await.unwrap_err().to_string();
        assert!(error.starts_with("x: block "), "{error}");
        assert!(error.contains(if panics { "panicked" } else { "not there within 50ms" }), "{error}");
    }
}

#[tokio::test]
async fn who_is_patient_asks_again() {
    let inner = Arc::new(Counting::default());
    inner.fails.store(true, Ordering::SeqCst);
    let soft = Mode::Soft(Duration::from_millis(400));
    let source = Arc::new(Persistent::new(Arc::clone(&inner), soft, Arc::new(Silent)));
    assert_eq!(ask(&source, &[row(&[1; 100])]).await, 0);
    let asked = inner.asked();
    assert!((2..=8).contains(&asked), "asked {asked} times in 400 ms");
    let source = Arc::new(Persistent::new(Arc::clone(&inner), Mode::Hard, Arc::new(Silent)));
    let reader = tokio::spawn(async move { ask(&source, &[row(&[1; 100])]).await });
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!reader.is_finished());
    inner.fails.store(false, Ordering::SeqCst);
    assert_eq!(reader.await.unwrap(), 1);
}

#[tokio::test]
async fn the_newest_head_of_several_sources_wins() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let publish = |name: &str, version| Publish { version, ..Publish::default() }.write(&at(name), &image(1 << 20));
    publish("old", 3);
    publish("new", 7);
    std::fs::create_dir(at("none")).unwrap();
    let stores = ["old", "none", "new", "old"].map(|name| Arc::new(Directory::new(at(name))) as Arc<dyn Fetch>);
    let opened = hfl::repo::open(&stores, &newest(Trust::Anyone)).await.unwrap();
    assert_eq!(opened.row.version.number(), 7);
    let none = hfl::repo::open(&stores[1..2], &newest(Trust::Anyone)).await;
    assert_eq!(none.unwrap_err().kind(), ReadErrorKind::Missing);
}
