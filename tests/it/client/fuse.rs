//! Real mounts: the mounted file equals the image, whatever happens to the mirrors.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hfl::format::index::Index;
use hfl::format::layout::RepoPath;
use tempfile::TempDir;

use crate::support::fixture::{Publish, Random, image};
use crate::support::mounting::{Mounted, WebServer, cannot_mount, nobody};

const IMAGE_BYTES: usize = (12 << 20) + 4321;

/// A repository with one image in `home/a`, the image, and its index.
fn repository() -> (TempDir, Vec<u8>, Index) {
    let home = tempfile::tempdir().unwrap();
    let bytes = image(IMAGE_BYTES);
    let index = Publish::default().write(&home.path().join("a"), &bytes);
    (home, bytes, index)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Flips one bit in the file of a block.
fn flip(base: &Path, index: &Index, block: usize) {
    let path = base.join(RepoPath::block(&index.blocks()[block].id).as_str());
    let mut file = fs::read(&path).unwrap();
    let middle = file.len() / 2;
    file[middle] ^= 4;
    fs::write(path, file).unwrap();
}

/// All image offsets at which a block is used.
fn uses(index: &Index, block: usize) -> Vec<u64> {
    let mut at = 0;
    let mut uses = Vec::new();
    for extent in index.extents() {
        if matches!(extent.from, hfl::format::index::ExtentSource::Block { block: b, .. } if b as usize == block) {
            uses.push(at);
        }
        at += extent.bytes;
    }
    uses
}

#[test]
fn a_directory_and_a_web_server_mount_alike() {
    if cannot_mount() {
        return;
    }
    let (home, bytes, index) = repository();
    let base = home.path().join("a");
    let server = WebServer::new(&base);
    let data_bytes = index.size() - index.hole_bytes();
    assert!(index.hole_bytes() > 1 << 20, "the image has holes");
    for source in [text(&base), server.url()] {
        let mounted = Mounted::new(home.path(), &["--unsigned", "--no-cache"], &[&source], "test");
        let meta = fs::metadata(mounted.file()).unwrap();
        assert_eq!((meta.len(), meta.is_file()), (IMAGE_BYTES as u64, true));
        assert_eq!(meta.blocks(), data_bytes.div_ceil(512), "what is a hole is not counted");
        assert!(fs::read(mounted.file()).unwrap() == bytes, "{source}");
        assert!(fs::write(mounted.file(), "x").is_err(), "read-only");
        let copy = home.path().join("copy");
        let copied = Command::new("cp").arg(mounted.file()).arg(&copy).status();
        assert!(copied.unwrap().success() && fs::read(&copy).unwrap() == bytes, "by way of its holes");
        assert!(fs::metadata(&copy).unwrap().blocks() * 512 < IMAGE_BYTES as u64 - (1 << 20), "cp leaves holes out");
        assert_eq!(fs::read_dir(mounted.point()).unwrap().count(), 1);
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let line = mounts.lines().find(|line| line.contains(mounted.point().to_str().unwrap())).unwrap();
        assert!(line.starts_with(&format!("{source}/test ")) && line.contains(" fuse.hfl ro,"), "{line}");
        mounted.end();
    }
}

#[test]
fn random_reads_of_many_threads_are_right() {
    if cannot_mount() {
        return;
    }
    let (home, bytes, _) = repository();
    let server = WebServer::new(&home.path().join("a"));
    let mounted = Mounted::new(home.path(), &["--unsigned", "--memory", "2M"], &[&server.url()], "test");
    let file = mounted.file();
    std::thread::scope(|scope| {
        for thread in 1..=6 {
            let (bytes, file) = (&bytes, &file);
            scope.spawn(move || {
                let file = fs::File::open(file).unwrap();
                let mut random = Random(thread);
                for _ in 0..200 {
                    let start = random.below(IMAGE_BYTES as u64);
                    let mut read = vec![0; 1 + random.below(400_000) as usize];
                    let got = file.read_at(&mut read, start).unwrap();
                    let end = (start as usize + read.len()).min(bytes.len());
                    assert!(read[..got] == bytes[start as usize..end], "{start}");
                }
            });
        }
    });
    mounted.end();
}

#[test]
fn a_bad_block_is_an_error_of_its_own_reads_alone() {
    if cannot_mount() {
        return;
    }
    let (home, bytes, index) = repository();
    let base = home.path().join("a");
    let bad = index.blocks().len() / 2;
    flip(&base, &index, bad);
    let mounted = Mounted::new(home.path(), &["--unsigned", "--timeout", "1"], &[&text(&base)], "test");
    let file = fs::File::open(mounted.file()).unwrap();
    let broken = uses(&index, bad);
    let mut page = [0; 4096];
    for at in (0..IMAGE_BYTES as u64 - 4096).step_by(crate::support::fixture::BLOCK_BYTES) {
        let read = file.read_exact_at(&mut page, at);
        if broken.contains(&at) {
            assert_eq!(read.unwrap_err().raw_os_error(), Some(5), "EIO at {at}");
        } else {
            read.unwrap();
            assert!(page[..] == bytes[at as usize..][..4096]);
        }
    }
    drop(file);
    let said = mounted.end();
    assert!(said.contains("a read at byte"), "{said}");
}

#[test]
fn a_second_source_makes_up_for_the_first() {
    if cannot_mount() {
        return;
    }
    let (home, bytes, index) = repository();
    let (bad, good) = (home.path().join("a"), home.path().join("b"));
    Publish::default().write(&good, &bytes);
    (0..index.blocks().len()).step_by(2).for_each(|block| flip(&bad, &index, block));
    let server = WebServer::new(&good);
    let sources = [text(&bad), nobody(), server.url()];
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    let mounted = Mounted::new(home.path(), &["--unsigned"], &sources, "test");
    assert!(fs::read(mounted.file()).unwrap() == bytes);
    assert!(mounted.end().contains("a source failed"));
}

#[test]
fn the_mirrors_that_the_head_names_are_used() {
    if cannot_mount() {
        return;
    }
    let (home, bytes, _) = repository();
    let server = WebServer::new(&home.path().join("a"));
    let head_only = home.path().join("b");
    let mirrors = vec![format!("{}/", server.url()).parse().unwrap()];
    Publish { mirrors, ..Publish::default() }.write(&head_only, &bytes);
    fs::remove_dir_all(head_only.join("blocks")).unwrap();
    let mounted = Mounted::new(home.path(), &["--unsigned"], &[&text(&head_only)], "test");
    assert!(fs::read(mounted.file()).unwrap() == bytes);
    mounted.end();
}

#[test]
fn several_mounts_share_a_cache_that_outlives_the_mirror() {
    if cannot_mount() {
        return;
    }
    let (home, bytes, _) = repository();
    let base = home.path().join("a");
    let sources = [text(&base)];
    let start = || Mounted::new(home.path(), &["--unsigned"], &[&sources[0]], "test");
    let (one, two) = (start(), start());
    std::thread::scope(|scope| {
        for mounted in [&one, &two] {
            scope.spawn(|| assert!(fs::read(mounted.file()).unwrap() == bytes));
        }
    });
    one.end();
    two.end();
    fs::remove_dir_all(base.join("blocks")).unwrap();
    let third = start();
    assert!(fs::read(third.file()).unwrap() == bytes, "from the cache alone");
    third.end();
}

#[test]
fn older_versions_can_be_asked_for() {
    if cannot_mount() {
        return;
    }
    let (home, bytes, _) = repository();
    let base = home.path().join("a");
    let newer = &bytes[..5_000_000];
    Publish { version: 2, ..Publish::default() }.write(&base, newer);
    let newest = Mounted::new(home.path(), &["--unsigned"], &[&text(&base)], "test");
    assert!(fs::read(newest.file()).unwrap() == newer);
    newest.end();
    let older = Mounted::new(home.path(), &["--unsigned", "--version", "1"], &[&text(&base)], "test");
    assert!(fs::read(older.file()).unwrap() == bytes);
    older.end();
}

#[test]
fn cached_reads_are_answered_while_a_mirror_stalls() {
    if cannot_mount() {
        return;
    }
    let (home, bytes, index) = repository();
    let (first, last) = (0, index.blocks().len() - 1);
    let server = WebServer::stalling(&home.path().join("a"), &index.blocks()[last].id.to_string());
    let mut mounted = Mounted::new(home.path(), &["--unsigned", "--no-cache"], &[&server.url()], "test");
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(mounted.file()).unwrap();
    let (cached, stalled) = (uses(&index, first)[0], uses(&index, last)[0]);
    let mut buffer = vec![0; 2 * 4096];
    let skip = buffer.as_ptr().align_offset(4096);
    let page = &mut buffer[skip..skip + 4096];
    file.read_exact_at(page, cached).unwrap();
    let waiting: Vec<_> = (0..12)
        .map(|_| {
            let file = fs::File::open(mounted.file()).unwrap();
            std::thread::spawn(move || file.read_exact_at(&mut [0; 100], stalled).is_err())
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let mut slowest = Duration::ZERO;
    for _ in 0..500 {
        let start = Instant::now();
        file.read_exact_at(page, cached).unwrap();
        slowest = slowest.max(start.elapsed());
        assert!(page[..] == bytes[cached as usize..][..4096]);
    }
    println!("the slowest of 500 cached reads took {slowest:?} while 12 others waited");
    assert!(slowest < Duration::from_secs(1) && !waiting.iter().any(|w| w.is_finished()));
    mounted.signal(rustix::process::Signal::TERM);
    assert!(mounted.status().success());
    assert!(waiting.into_iter().all(|w| w.join().unwrap()), "what still waits at the end fails");
}
