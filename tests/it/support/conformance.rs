//! The conformance suite that every driver must pass, run against real servers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hfl::format::layout::RepoPath;
use hfl::store::{Exclusive, Put, Store, StoreError, StoreErrorKind, Swap};

use crate::support::lab::Random;

const MAX: u64 = 8 << 20;

fn path(text: &str) -> RepoPath {
    text.parse().expect("a path")
}

fn body(seed: u64, bytes: usize) -> Bytes {
    Random(seed).bytes(bytes).into()
}

/// Runs the whole suite on an empty store.
pub async fn all(store: Arc<dyn Store>) {
    let started = Instant::now();
    nothing_is_there(&*store).await;
    put_new(&*store).await;
    replace(&*store).await;
    swap(&*store).await;
    sizes_of_bodies(&*store).await;
    names(&*store).await;
    delete(&*store).await;
    many_at_once(&store).await;
    one_winner(&store).await;
    long_listing(&store).await;
    println!("{}: all of the suite in {:.2?}", store.location(), started.elapsed());
}

async fn nothing_is_there(store: &dyn Store) {
    let nothing = path("blocks/00/0000");
    let error = store.get(&nothing, MAX).await.expect_err("nothing is there");
    assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("blocks/00/0000"), "an error names its object: {error}");
    assert_eq!(store.size(&nothing).await.expect("an answer"), None);
    assert_eq!(store.list("blocks").await.expect("an empty listing"), []);
    store.delete(&nothing).await.expect("what is not there need not be removed");
}

async fn put_new(store: &dyn Store) {
    let (at, first, second) = (path("blocks/1f/1f3a"), body(1, 5000), body(2, 700));
    assert_eq!(store.put_new(&at, first.clone()).await.expect("a new object"), Put::Created);
    assert_eq!(store.get(&at, MAX).await.expect("it is there"), first);
    assert_eq!(store.size(&at).await.expect("a size"), Some(5000));
    let again = store.put_new(&at, second.clone()).await.expect("an answer");
    match store.exclusive() {
        Exclusive::Claimed if again == Put::Created => {
            println!("{}: does not keep what is there (a lax server)", store.location());
            assert_eq!(store.get(&at, MAX).await.expect("it is there"), second);
        }
        _ => {
            assert_eq!(again, Put::Exists);
            assert_eq!(store.get(&at, MAX).await.expect("it is there"), first, "what is there stays");
        }
    }
    let short = store.get(&at, 100).await.expect_err("more than was asked for");
    assert_eq!(short.kind(), StoreErrorKind::TooLong, "{short}");
    let exact = store.size(&at).await.expect("a size").expect("it is there");
    assert_eq!(store.get(&at, exact).await.expect("exactly as much").len() as u64, exact);
}

async fn replace(store: &dyn Store) {
    let at = path("os.head");
    for (seed, bytes) in [(3, 900), (4, 12), (5, 30_000)] {
        store.put_replace(&at, body(seed, bytes)).await.expect("replaced");
        assert_eq!(store.get(&at, MAX).await.expect("it is there"), body(seed, bytes));
    }
}

async fn swap(store: &dyn Store) {
    let (at, one, two, three) = (path("images"), body(6, 60), body(7, 60), body(8, 90));
    assert_eq!(store.swap(&at, Some(&one), two.clone()).await.expect("an answer"), Swap::Changed, "nothing is there");
    assert_eq!(store.swap(&at, None, one.clone()).await.expect("an answer"), Swap::Done);
    assert_eq!(store.swap(&at, None, two.clone()).await.expect("an answer"), Swap::Changed);
    assert_eq!(store.swap(&at, Some(&two), three.clone()).await.expect("an answer"), Swap::Changed);
    assert_eq!(store.get(&at, MAX).await.expect("it is there"), one);
    assert_eq!(store.swap(&at, Some(&one), three.clone()).await.expect("an answer"), Swap::Done);
    assert_eq!(store.get(&at, MAX).await.expect("it is there"), three);
}

async fn sizes_of_bodies(store: &dyn Store) {
    for (i, bytes) in [0, 1, 4095, 4096, 32_768, 65_537, (4 << 20) + 4096].into_iter().enumerate() {
        let (at, bytes) = (path(&format!("sizes/{i}")), body(20 + i as u64, bytes));
        assert_eq!(store.put_new(&at, bytes.clone()).await.expect("any size"), Put::Created);
        assert_eq!(store.size(&at).await.expect("a size"), Some(bytes.len() as u64));
        assert_eq!(store.get(&at, MAX).await.expect("any size"), bytes, "{} bytes", bytes.len());
    }
}

async fn names(store: &dyn Store) {
    let deep = "a/b/c/d/e/f/g/h";
    let long = format!("index/{}/{}", "n".repeat(64), "1-0123456789ab.idx.minisig");
    let all = ["a+b", "UPPER.Case_x", "client/hfl-mount-1.0.0-x86_64-linux", "x~no", deep, &long];
    for name in all.iter().filter(|n| n.parse::<RepoPath>().is_ok()) {
        let at = path(name);
        assert_eq!(store.put_new(&at, body(40, 10)).await.expect("any name"), Put::Created, "{name}");
        assert_eq!(store.get(&at, MAX).await.expect("any name"), body(40, 10), "{name}");
    }
    let listed = store.list("index").await.expect("a listing");
    assert_eq!(listed.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(), [long.as_str()]);
    let top: HashSet<String> =
        store.list("").await.expect("a listing of all").into_iter().map(|e| e.path.to_string()).collect();
    for name in ["a+b", "UPPER.Case_x", deep, &long, "os.head", "blocks/1f/1f3a"] {
        assert!(top.contains(name), "{name} is in the listing of all");
    }
}

async fn delete(store: &dyn Store) {
    let at = path("sizes/3");
    store.delete(&at).await.expect("removed");
    assert_eq!(store.size(&at).await.expect("an answer"), None);
    store.delete(&at).await.expect("once more");
    assert_eq!(store.put_new(&at, body(50, 77)).await.expect("its place is free"), Put::Created);
    assert_eq!(store.get(&at, MAX).await.expect("it is there"), body(50, 77));
}

/// Creates a new object. A server that only claims conditional requests may fail under concurrent writes
/// (rclone answers 500); the request is retried then, as publishing does.
async fn create(store: &dyn Store, at: &RepoPath, bytes: Bytes) -> Result<Put, StoreError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match store.put_new(at, bytes.clone()).await {
            Err(e)
                if e.kind() == StoreErrorKind::Unreachable && store.exclusive() == Exclusive::Claimed && tries < 10 =>
            {
                println!("asked again: {e}");
                tokio::time::sleep(Duration::from_millis(20 * tries)).await;
            }
            done => return done,
        }
    }
}

async fn many_at_once(store: &Arc<dyn Store>) {
    let mut running = tokio::task::JoinSet::new();
    for i in 0..32_u64 {
        let store = Arc::clone(store);
        running.spawn(async move {
            let (at, bytes) = (path(&format!("many/{:02x}/{i}", i % 7)), body(100 + i, 1 + 9973 * i as usize));
            assert_eq!(create(&*store, &at, bytes.clone()).await.expect("one of many"), Put::Created);
            assert_eq!(store.get(&at, MAX).await.expect("one of many"), bytes);
        });
    }
    running.join_all().await;
    assert_eq!(store.list("many").await.expect("a listing").len(), 32);
}

/// Concurrent writers of one path: the results that the driver reports are true.
async fn one_winner(store: &Arc<dyn Store>) {
    let at = path("race/one");
    let mut running = tokio::task::JoinSet::new();
    for i in 0..16_u64 {
        let (store, at) = (Arc::clone(store), at.clone());
        running.spawn(async move { (i, create(&*store, &at, body(200 + i, 3000)).await) });
    }
    let mut winners = Vec::new();
    for (i, put) in running.join_all().await {
        match put {
            Ok(Put::Created) => winners.push(i),
            Ok(Put::Exists) => {}
            Err(e) => panic!("writer {i}: {e}"),
        }
    }
    let found = store.get(&at, MAX).await.expect("somebody won");
    assert!(winners.iter().any(|&i| found == body(200 + i, 3000)), "what is there is a winner's, and whole");
    if store.exclusive() == Exclusive::Always {
        assert_eq!(winners.len(), 1);
    }
    println!("{}: {} of 16 writers at one path were told that they made it", store.location(), winners.len());
}

async fn long_listing(store: &Arc<dyn Store>) {
    const OBJECTS: usize = 1234;
    let started = Instant::now();
    let room = Arc::new(tokio::sync::Semaphore::new(store.jobs()));
    let mut running = tokio::task::JoinSet::new();
    for i in 0..OBJECTS {
        let (store, room) = (Arc::clone(store), Arc::clone(&room));
        running.spawn(async move {
            let _room = room.acquire().await;
            let at = path(&format!("long/{:02x}/{i}", i % 5));
            create(&*store, &at, body(i as u64, 64)).await.expect("one of very many")
        });
    }
    running.join_all().await;
    let written = started.elapsed();
    let listed = store.list("long").await.expect("a long listing");
    let paths: HashSet<&RepoPath> = listed.iter().map(|e| &e.path).collect();
    assert_eq!((listed.len(), paths.len()), (OBJECTS, OBJECTS), "each once");
    assert!(listed.iter().all(|e| e.bytes == 64), "with its size");
    println!("{}: {OBJECTS} small objects in {written:.2?}, {} at once", store.location(), store.jobs());
}
