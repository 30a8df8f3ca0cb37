//! Processes that share a cache directory: what one fetches, the others read; none waits long for one that is slow,
//! stuck or dead; and the directory is shrunk once.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant, SystemTime};

use hfl::format::index::Index;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use crate::support::fixture::Publish;
use crate::support::lab::Random;
use crate::support::mounting::{Mounted, WebServer, cannot_mount, run};

const BLOCK_BYTES: usize = 64 << 10;

/// A repository in `home/a`.
fn repository(home: &Path, bytes: usize) -> (PathBuf, Vec<u8>, Index) {
    let (base, bytes) = (home.join("a"), Random(11).bytes(bytes));
    let index = Publish { block_bytes: BLOCK_BYTES, ..Publish::default() }.write(&base, &bytes);
    (base, bytes, index)
}

/// The bytes of all files of blocks in a cache.
fn cached_bytes(cache: &Path) -> u64 {
    let files = walkdir::WalkDir::new(cache.join("blocks")).into_iter().flatten();
    // A file may be evicted while this looks.
    files.filter(|e| e.file_type().is_file()).filter_map(|e| Some(e.metadata().ok()?.len())).sum()
}

#[test]
fn timed_fifty_mounts_at_once_fetch_hardly_more_than_one() {
    if cannot_mount() {
        return;
    }
    const MOUNTS: usize = 50;
    let home = tempfile::tempdir().unwrap();
    let (base, bytes, index) = repository(home.path(), 16 << 20);
    let (server, asked) = WebServer::noting(&base, Duration::from_millis(5));
    let (bytes, cache) = (Arc::new(bytes), home.path().join("shared"));
    let start = Instant::now();
    let ready = Arc::new(Barrier::new(MOUNTS));
    let readers: Vec<_> = (0..MOUNTS)
        .map(|number| {
            let (home, url) = (home.path().join(number.to_string()), server.url());
            let (bytes, cache, ready) = (Arc::clone(&bytes), cache.clone(), Arc::clone(&ready));
            std::thread::spawn(move || {
                let arguments = ["--unsigned", "--cache", cache.to_str().unwrap()];
                let mounted = Mounted::new(&home, &arguments, &[&url], "test");
                ready.wait();
                assert!(fs::read(mounted.file()).unwrap() == *bytes);
                let said = mounted.end();
                assert!(!said.contains("failed"), "{said}");
            })
        })
        .collect();
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    let (fetched, blocks) = (asked.take().len(), index.blocks().len());
    println!("{MOUNTS} mounts of {blocks} blocks: {fetched} requests for blocks, {:.2?}", start.elapsed());
    assert!(fetched >= blocks && fetched * 10 <= blocks * 13, "{fetched} requests for {blocks} blocks");
    assert!(cached_bytes(&cache) >= index.zlib_bytes());
}

#[test]
fn timed_nobody_waits_long_for_a_process_that_is_slow_or_stuck_or_dead() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (base, bytes, index) = repository(home.path(), 4 << 20);
    let cache = home.path().join("shared");
    // Of the first, the head and the index come at once, the blocks never.
    let (never, fast) = (WebServer::stalling_below(&base, "/blocks/"), WebServer::new(&base));
    let arguments = ["--unsigned", "--cache", cache.to_str().unwrap(), "--no-readahead", "--one-at-a-time"];
    let other = Mounted::new(&home.path().join("2"), &arguments, &[&fast.url()], "test");
    let file_of_other = fs::File::open(other.file()).unwrap();
    // The kernel reads nothing ahead either.
    rustix::fs::fadvise(&file_of_other, 0, None, rustix::fs::Advice::Random).unwrap();
    let arguments = ["--unsigned", "--cache", cache.to_str().unwrap(), "--timeout", "600"];
    let holder = Mounted::new(&home.path().join("1"), &arguments, &[&never.url()], "test");
    let file = fs::File::open(holder.file()).unwrap();
    let reads = std::thread::spawn(move || file.read_at(&mut vec![0; 1 << 20], 0));
    let is_held = |block: usize| {
        let name = index.blocks()[block].id.to_string();
        let lock = fs::File::open(cache.join("locks").join(&name[..3]));
        lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err())
    };
    let start = Instant::now();
    let held = loop {
        let held: Vec<usize> = (0..index.blocks().len()).filter(|&block| is_held(block)).collect();
        if held.len() >= 3 {
            break held;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "it holds {held:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    let read = |block: usize| {
        let (mut piece, at, start) = (vec![0; 4096], block * BLOCK_BYTES, Instant::now());
        file_of_other.read_exact_at(&mut piece, at as u64).unwrap();
        assert!(piece == bytes[at..at + 4096]);
        start.elapsed()
    };
    // Places of the image are blocks here: nothing in it repeats.
    let alive = read(held[0]);
    holder.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(700));
    let stuck = read(held[1]);
    assert!(is_held(held[2]), "the process that is stopped still has its locks");
    holder.signal(Signal::KILL);
    std::thread::sleep(Duration::from_millis(200));
    let dead = read(held[2]);
    println!("a block that another process fetches: it is slow {alive:.2?}, stuck {stuck:.2?}, dead {dead:.2?}");
    assert!(alive > Duration::from_secs(1), "it was waited for: {alive:?}");
    assert!(alive < Duration::from_secs(5) && stuck < Duration::from_secs(1) && dead < Duration::from_millis(500));
    other.end();
    drop(holder);
    let _ = reads.join();
}

#[test]
fn a_cache_without_locks_is_a_cache() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (base, bytes, index) = repository(home.path(), 4 << 20);
    let (server, cache) = (WebServer::new(&base), home.path().join("shared"));
    fs::create_dir(&cache).unwrap();
    let arguments = ["--unsigned", "--cache", cache.to_str().unwrap()];
    Mounted::new(home.path(), &arguments, &[&server.url()], "test").end();
    let _ = fs::remove_dir_all(cache.join("locks"));
    fs::write(cache.join("locks"), "").unwrap();
    let mounted = Mounted::new(home.path(), &arguments, &[&server.url()], "test");
    assert!(fs::read(mounted.file()).unwrap() == bytes);
    mounted.end();
    assert!(cached_bytes(&cache) >= index.zlib_bytes() / 2, "what the disk kept up with");
}

/// Waits until a cache has not changed for a second; returns its bytes.
fn settled(cache: &Path) -> u64 {
    let (start, mut before, mut since) = (Instant::now(), cached_bytes(cache), Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        assert!(start.elapsed() < Duration::from_secs(60), "it goes on changing");
        std::thread::sleep(Duration::from_millis(50));
        let now = cached_bytes(cache);
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
    before
}

#[test]
fn several_processes_that_evict_free_what_is_too_much_once() {
    if cannot_mount() {
        return;
    }
    const LIMIT: u64 = 12 << 20;
    let home = tempfile::tempdir().unwrap();
    let (base, _, index) = repository(home.path(), 64 << 20);
    let (server, cache) = (WebServer::new(&base), home.path().join("shared"));
    let cache_text = cache.to_str().unwrap();
    let source = format!("{}/test", server.url());
    for round in 0..3 {
        let fetched = run(home.path(), &["fetch", "--quiet", "--unsigned", "--cache", cache_text, &source]);
        assert!(fetched.status.success());
        assert!(cached_bytes(&cache) >= index.zlib_bytes() && index.zlib_bytes() > 2 * LIMIT);
        let size = LIMIT.to_string();
        let arguments = ["--unsigned", "--cache", cache_text, "--cache-size", &size];
        let mounts: Vec<_> = (0..8)
            .map(|number| {
                let (home, url) = (home.path().join(number.to_string()), server.url());
                let arguments = arguments.map(str::to_owned);
                std::thread::spawn(move || {
                    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                    Mounted::new(&home, &arguments, &[&url], "test")
                })
            })
            .collect();
        let mounts: Vec<Mounted> = mounts.into_iter().map(|mount| mount.join().unwrap()).collect();
        let left = settled(&cache);
        println!("round {round}: {} bytes, shrunk by 8 processes to {left}, limit {LIMIT}", index.zlib_bytes());
        assert!((LIMIT / 10 * 8..=LIMIT).contains(&left), "{left}");
        drop(mounts);
    }
}

#[test]
fn a_process_that_is_stuck_while_it_evicts_does_not_keep_others_from_it() {
    if cannot_mount() {
        return;
    }
    const LIMIT: u64 = 4 << 20;
    let home = tempfile::tempdir().unwrap();
    let (base, _, _) = repository(home.path(), 16 << 20);
    let (server, cache) = (WebServer::new(&base), home.path().join("shared"));
    let (cache_text, source) = (cache.to_str().unwrap(), format!("{}/test", server.url()));
    assert!(run(home.path(), &["fetch", "--quiet", "--unsigned", "--cache", cache_text, &source]).status.success());
    let stuck = fs::File::open(cache.join("locks/evict")).unwrap();
    flock(&stuck, FlockOperation::NonBlockingLockExclusive).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    stuck.set_modified(long_ago).unwrap();
    let arguments = ["--unsigned", "--cache", cache_text, "--cache-size", &LIMIT.to_string()];
    let _mounted = Mounted::new(home.path(), &arguments, &[&server.url()], "test");
    let start = Instant::now();
    while cached_bytes(&cache) > LIMIT {
        assert!(start.elapsed() < Duration::from_secs(10), "nothing is evicted");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(settled(&cache) >= LIMIT / 10 * 8);
}
