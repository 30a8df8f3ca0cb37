//! A directory among the sources that stops responding does not delay the mirrors that respond.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::fixture::{Publish, image};
use crate::support::hanging::Hanging;
use crate::support::mounting::{Mounted, WebServer, cannot_mount};

const IMAGE_BYTES: usize = 32 << 20;
/// The offset at which the directory stops responding.
const MIDDLE: usize = 8 << 20;
/// A few seconds: once one mirror is late, the others are asked in parallel.
const HANG_MAX: Duration = Duration::from_secs(8);

fn read(mounted: &Mounted, from: usize, to: usize, original: &[u8]) -> Duration {
    let start = Instant::now();
    let mut file = fs::File::open(mounted.file()).unwrap();
    let mut bytes = vec![0; to - from];
    file.seek(SeekFrom::Start(from as u64)).unwrap();
    file.read_exact(&mut bytes).expect("no error reaches the reader");
    assert!(bytes == original[from..to]);
    start.elapsed()
}

fn mount(home: &Path, directory: &Path, server: &WebServer) -> Mounted {
    // Without a cache and with little memory, because prefetch would read everything before the
    // directory hangs.
    let arguments = ["--unsigned", "--memory", "1M", "--cache", "none"];
    Mounted::new(home, &arguments, &[directory.to_str().unwrap(), &server.url()], "test")
}

#[test]
fn a_directory_that_hangs_does_not_hold_up_the_good_mirrors() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (base, original) = (home.path().join("a"), image(IMAGE_BYTES));
    Publish::default().write(&base, &original);
    let server = WebServer::new(&base);
    let point = home.path().join("hanging");
    let disk = Hanging::mount(&base, &point);
    let mounted = mount(home.path(), &point, &server);
    read(&mounted, 0, MIDDLE, &original);
    disk.hang(true);
    let hangs = read(&mounted, MIDDLE, IMAGE_BYTES, &original);
    let start = Instant::now();
    let other = mount(home.path(), &point, &server);
    let starts = start.elapsed();
    let other_reads = read(&other, 0, MIDDLE, &original);
    println!(
        "24 MiB while it hangs: {hangs:.2?}; a new mount starts in {starts:.2?} and reads 8 MiB in {other_reads:.2?}"
    );
    disk.hang(false);
    other.end();
    mounted.end();
    assert!(hangs < HANG_MAX && other_reads < HANG_MAX);
    assert!(starts < Duration::from_secs(25), "the head is waited for, but not for ever");
}

#[test]
fn files_that_become_pipes_do_not_hold_up_the_good_mirrors() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (base, planted, original) = (home.path().join("a"), home.path().join("b"), image(IMAGE_BYTES));
    Publish::default().write(&base, &original);
    Publish::default().write(&planted, &original);
    let server = WebServer::new(&base);
    let mounted = mount(home.path(), &planted, &server);
    read(&mounted, 0, MIDDLE, &original);
    let files = walkdir::WalkDir::new(&planted).into_iter().flatten().filter(|e| e.file_type().is_file());
    for file in files.map(walkdir::DirEntry::into_path).collect::<Vec<_>>() {
        fs::remove_file(&file).unwrap();
        assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    }
    let took = read(&mounted, MIDDLE, IMAGE_BYTES, &original);
    println!("24 MiB while every file of one source is a pipe: {took:.2?}");
    mounted.end();
    assert!(took < HANG_MAX);
}
