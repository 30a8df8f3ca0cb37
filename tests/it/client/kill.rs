//! The client is killed with SIGKILL at any moment: the cache stays correct, and intact blocks are not
//! fetched again.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hfl::format::block::Block;
use hfl::format::index::Index;
use hfl::format::layout::RepoPath;
use rustix::process::Signal;

use crate::support::fixture::{Publish, image};
use crate::support::lab::{Random, full};
use crate::support::mounting::{Mounted, WebServer, cannot_mount};

const IMAGE_BYTES: usize = 64 << 20;
const READERS: u64 = 4;

/// The blocks whose cache files are intact.
fn whole(cache: &Path, index: &Index) -> HashSet<String> {
    let is_whole = |row: &&hfl::format::block::BlockRow| {
        let file = fs::read(cache.join(RepoPath::block(&row.id).as_str()));
        file.is_ok_and(|file| Block::open(row, &file).is_ok())
    };
    index.blocks().iter().filter(is_whole).map(|row| row.id.to_string()).collect()
}

/// Removes about a third of the files, so that there are blocks to fetch again.
fn thin_out(cache: &Path, index: &Index, random: &mut Random) {
    for row in index.blocks().iter().filter(|_| random.below(3) == 0) {
        let _ = fs::remove_file(cache.join(RepoPath::block(&row.id).as_str()));
    }
}

/// Reads at random positions until the client is killed. Returns the number of correct reads. Parts of
/// the image in the page cache remain readable after that, so a failed read is not the only way to stop.
fn read_until_it_dies(file: &Path, original: &[u8], seed: u64, is_killed: &AtomicBool) -> usize {
    let (file, mut random, mut reads) = (fs::File::open(file).unwrap(), Random(seed), 0);
    while !is_killed.load(Relaxed) {
        let start = random.below(IMAGE_BYTES as u64);
        let mut read = vec![0; 1 + random.below(300_000) as usize];
        let Ok(got) = file.read_at(&mut read, start) else { return reads };
        assert!(read[..got] == original[start as usize..][..got], "wrong bytes at {start}");
        reads += 1;
    }
    reads
}

#[test]
fn a_client_that_is_killed_leaves_a_cache_that_is_right() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (base, cache, original) = (home.path().join("a"), home.path().join("cache/hfl"), image(IMAGE_BYTES));
    let index = Publish::default().write(&base, &original);
    let (server, asked) = WebServer::noting(&base, Duration::from_millis(2));
    let arguments = ["--unsigned", "--memory", "2M"];
    let mount = || Mounted::new(home.path(), &arguments, &[&server.url()], "test");
    let (rounds, mut random) = (if full() { 100 } else { 8 }, Random(11));
    let (mut reads, mut fetched, mut spared) = (0, 0, 0);
    for round in 0..rounds {
        thin_out(&cache, &index, &mut random);
        let held = whole(&cache, &index);
        let mounted = mount();
        let (file, sleep) = (mounted.file(), Duration::from_millis(random.below(400)));
        let is_killed = AtomicBool::new(false);
        reads += std::thread::scope(|scope| {
            let reader = |n| {
                let (file, original, is_killed) = (&file, &original, &is_killed);
                scope.spawn(move || read_until_it_dies(file, original, round * READERS + n + 1, is_killed))
            };
            let readers: Vec<_> = (0..READERS).map(reader).collect();
            std::thread::sleep(sleep);
            mounted.signal(Signal::KILL);
            is_killed.store(true, Relaxed);
            readers.into_iter().map(|reader| reader.join().unwrap()).sum::<usize>()
        });
        drop(mounted);
        let again = asked.take();
        fetched += again.len();
        spared += held.len();
        let twice = again.iter().find(|block| held.contains(*block));
        assert_eq!(twice, None, "round {round}: it was whole in the cache");
    }
    let held = whole(&cache, &index);
    let mounted = mount();
    assert!(fs::read(mounted.file()).unwrap() == original);
    mounted.end();
    let last = asked.take();
    let left = fs::read_dir(cache.join(".hfl-tmp")).unwrap().count();
    println!("killed {rounds} times during {reads} right reads: {fetched} blocks fetched, {spared} found whole");
    println!("then {} of {} fetched, {left} temporary files left", last.len(), index.blocks().len());
    assert!(!last.iter().any(|block| held.contains(block)) && last.len() + held.len() <= index.blocks().len());
    assert!(whole(&cache, &index).len() == index.blocks().len() && left == 0);
    assert!(reads > 0 && fetched > 0 && spared > 0);
}
