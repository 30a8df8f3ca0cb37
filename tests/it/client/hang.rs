//! A cache on a hanging disk is bypassed: reads go to the network, and to the disk again once it
//! responds.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::fixture::{Publish, image};
use crate::support::hanging::Hanging;
use crate::support::mounting::{Mounted, WebServer, cannot_mount};

/// The timeout for a disk is 2 s. A few concurrent reads may each have to wait for it.
const HANG_MAX: Duration = Duration::from_secs(8);

/// Reads a part of the image and checks it. Returns the time taken.
fn read(mounted: &Mounted, from: usize, original: &[u8]) -> Duration {
    let start = Instant::now();
    let mut file = fs::File::open(mounted.file()).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let mut bytes = vec![0; original.len() - from];
    file.seek(SeekFrom::Start(from as u64)).unwrap();
    file.read_exact(&mut bytes).unwrap();
    assert!(bytes == original[from..]);
    start.elapsed()
}

/// Mounts the image at this URL, with a cache in this directory and little memory.
fn with_cache(home: &Path, cache: &Path, url: &str) -> Mounted {
    Mounted::new(home, &["--unsigned", "--memory", "1M", "--cache", cache.to_str().unwrap()], &[url], "test")
}

/// Fills the cache with the whole image.
fn fill(mounted: Mounted, original: &[u8]) {
    read(&mounted, 0, original);
    mounted.end();
}

#[test]
fn a_cache_disk_that_is_slower_than_the_network_holds_up_nobody() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (base, original) = (home.path().join("a"), image(16 << 20));
    Publish::default().write(&base, &original);
    let server = WebServer::new(&base);
    let (filled, point) = (home.path().join("filled"), home.path().join("slow"));
    let mount = |cache: &Path| with_cache(home.path(), cache, &server.url());
    fill(mount(&filled), &original);
    let disk = Hanging::mount(&filled, &point);
    let mounted = mount(&point);
    // Just below the timeout after which a disk counts as hanging.
    disk.slow(Duration::from_millis(1900));
    let slow = read(&mounted, 0, &original);
    drop(server);
    disk.slow(Duration::from_millis(200));
    let alone = read(&mounted, 0, &original);
    println!("16 MiB beside a disk that takes 1.9 s for each file: {slow:?}; from one with 0.2 s alone: {alone:?}");
    assert!(slow < Duration::from_secs(8), "{slow:?}");
    mounted.end();
}

#[test]
fn a_cache_disk_that_hangs_holds_up_nobody() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (base, original) = (home.path().join("a"), image(32 << 20));
    let blocks = Publish::default().write(&base, &original).blocks().len();
    let (server, asked) = WebServer::noting(&base, Duration::ZERO);
    let (filled, point) = (home.path().join("filled"), home.path().join("hanging"));
    let mount = |cache: &Path| with_cache(home.path(), cache, &server.url());
    fill(mount(&filled), &original);
    let disk = Hanging::mount(&filled, &point);
    let mounted = mount(&point);
    let _ = asked.take();
    let works = read(&mounted, 0, &original);
    assert_eq!(asked.take().len(), 0, "all from the disk");
    disk.hang(true);
    let hangs = read(&mounted, 0, &original);
    let from_the_network = asked.take().len();
    let goes_on = read(&mounted, 0, &original);
    let start = Instant::now();
    let other = mount(&point);
    let (starts, other_reads) = (start.elapsed(), read(&other, 0, &original));
    disk.hang(false);
    let other_said = other.end();
    std::thread::sleep(Duration::from_millis(100));
    read(&mounted, 0, &original);
    // Blocks that were being prefetched while the disk hung still arrive.
    std::thread::sleep(Duration::from_secs(1));
    let _ = asked.take();
    let again = read(&mounted, 0, &original);
    let asked_again = asked.take().len();
    println!("{blocks} blocks from the disk {works:?}; it hangs: {hangs:?}, then {goes_on:?}; it works: {again:?}");
    println!("{from_the_network} blocks from the network meanwhile, {asked_again} after");
    println!("a mount while it hangs takes {starts:?}, and reads in {other_reads:?}");
    assert!(hangs < HANG_MAX && goes_on < HANG_MAX && from_the_network >= blocks, "{hangs:?}, {goes_on:?}");
    assert!(starts < 2 * HANG_MAX && other_reads < HANG_MAX, "{starts:?}, {other_reads:?}");
    assert_eq!(asked_again, 0, "the disk is used again");
    assert!(other_said.contains("it does not answer within"), "{other_said}");
    mounted.end();
}
