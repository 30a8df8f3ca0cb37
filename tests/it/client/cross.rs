//! The client on a big-endian machine, as the PlayStation 3 is: built for s390x and run under QEMU user
//! emulation, on a real repository over HTTP. It cannot mount there, because the kernel is not emulated.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use hfl::format::head::SignedHead;
use hfl::format::index::Index;
use hfl::format::layout::RepoPath;
use hfl::format::profile::{FirstRead, Profile};

use crate::support::cross;
use crate::support::lab::{Lab, check_mirror, code, skipped, stderr, two_images};
use crate::support::mounting::{WebServer, client};
use crate::support::nbd::{Exported, Plain, Speech};
use crate::support::servers::program;

/// Bytes per read request.
const NBD_BYTES: u32 = 1 << 20;

/// The emulator and the client.
struct BigEndian {
    qemu: PathBuf,
    client: PathBuf,
}

impl BigEndian {
    /// `None`, with a skip message, if one is missing.
    fn new() -> Option<Self> {
        let qemu =
            program("qemu-s390x-static").or_else(|| program("qemu-s390x")).ok_or("no qemu-s390x-static".to_owned());
        match qemu.and_then(|qemu| Ok(Self { qemu, client: cross::file("s390x", "hfl-mount")? })) {
            Ok(found) => Some(found),
            Err(why) => {
                skipped(&why);
                None
            }
        }
    }

    fn command(&self, home: &Path) -> Command {
        let mut command = Command::new(&self.qemu);
        command.arg(&self.client).env("XDG_CACHE_HOME", home.join("cache")).env("XDG_STATE_HOME", home.join("state"));
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, home: &Path, arguments: &[&str]) -> Output {
        self.command(home).args(arguments).output().unwrap()
    }
}

/// Report of a fetch, and how long it took.
fn fetch(mut command: Command, arguments: &[&str]) -> (serde_json::Value, Duration) {
    let begun = Instant::now();
    let output = command.args(["fetch", "--json"]).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    (serde_json::from_slice(&output.stdout).unwrap(), begun.elapsed())
}

/// All files below a directory, with their contents, by path.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = walkdir::WalkDir::new(directory).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    entries.map(|e| (e.path().strip_prefix(directory).unwrap().to_owned(), fs::read(e.path()).unwrap())).collect()
}

/// Two versions of `os` on the mirror `a`, the newer one with a profile of 20 of its blocks. Returns the
/// key line too.
fn repository() -> (Lab, String) {
    let lab = Lab::with_mirrors(&["a"]);
    two_images(&lab, 1000);
    lab.publish(&["one.img", "--name", "os"]);
    lab.publish(&["two.img", "--name", "os"]);
    let head = SignedHead::parse(&fs::read(lab.path("a/os.head")).unwrap()).unwrap().verify(&lab.trust("os")).unwrap();
    let row = &head.versions[0];
    let index = Index::parse(&fs::read(lab.path("a").join(row.index_path(&head.image).as_str())).unwrap()).unwrap();
    let reads = index.blocks().iter().step_by(3).take(20).zip(0..);
    let reads = reads.map(|(block, ms)| FirstRead { id: block.id, ms, offset: 0 }).collect();
    lab.write("boot.profile", Profile::new(head.image.clone(), row.version, reads).unwrap().to_bytes());
    lab.publish(&["two.img", "--name", "os", "--profile", "boot.profile"]);
    let public = fs::read_to_string(lab.path("home/.config/hfl/keys/os.pub")).unwrap();
    (lab, public.lines().nth(1).unwrap().to_owned())
}

#[test]
fn a_big_endian_client_fetches_what_every_other_one_does() {
    let Some(big) = BigEndian::new() else { return };
    let version = big.run(Path::new("/tmp"), &["-V"]);
    assert_eq!(String::from_utf8_lossy(&version.stdout).trim(), concat!("hfl-mount ", env!("CARGO_PKG_VERSION")));
    let (lab, key) = repository();
    let server = WebServer::new(&lab.path("a"));
    let source = format!("{}/os", server.url());
    let homes = ["big", "little"].map(|name| lab.path(name));
    let (mut took, mut reports) = (Vec::new(), Vec::new());
    for (home, is_big) in homes.iter().zip([true, false]) {
        for asked in [&[][..], &["--version", "1"]] {
            let command = if is_big { big.command(home) } else { client(home) };
            let (report, time) = fetch(command, &[&["--key", &key, &source], asked].concat());
            took.push(time);
            reports.push([report["version"].clone(), report["blocks"].clone(), report["bytes"].clone()]);
        }
    }
    println!("two versions each, big and little: {took:.1?}; version, blocks, bytes: {reports:?}");
    assert_eq!(reports[..2], reports[2..]);
    let caches = homes.each_ref().map(|home| home.join("cache/hfl"));
    let [of_big, of_little] = caches.each_ref().map(|cache| files(cache));
    println!("{} files, {} bytes", of_big.len(), of_big.values().map(Vec::len).sum::<usize>());
    assert!(of_big.len() > 50);
    let differ = |path: &&PathBuf| of_big.get(*path) != of_little.get(*path);
    assert_eq!(of_big.keys().chain(of_little.keys()).find(differ), None, "the same files with the same bytes");

    // Every block matches the SHA-1 and SHA-256 in the signed indexes, and together the blocks are the
    // images.
    assert_eq!(check_mirror(&caches[0], "os", &lab.trust("os")), [2, 1]);
    for (number, image) in [("1", "one.img"), ("2", "two.img")] {
        let back = format!("back{number}.img");
        lab.ok(&["restore", "big/cache/hfl/os", &back, "--version", number, "--quiet"]);
        assert!(fs::read(lab.path(&back)).unwrap() == fs::read(lab.path(image)).unwrap(), "{image}");
    }
}

#[test]
fn a_big_endian_client_fetches_what_a_boot_reads() {
    let Some(big) = BigEndian::new() else { return };
    let (lab, key) = repository();
    let server = WebServer::new(&lab.path("a"));
    let home = lab.path("big");
    let words = ["--key", &key, "--profile-only", &format!("{}/os", server.url())];
    let (report, took) = fetch(big.command(&home), &words);
    println!("{report} in {:.1} s", took.as_secs_f64());
    let profile = Profile::parse(&fs::read(lab.path("boot.profile")).unwrap()).unwrap();
    let held = files(&home.join("cache/hfl/blocks")).len();
    assert_eq!(held, profile.reads().len());
    for read in profile.reads() {
        assert!(home.join("cache/hfl").join(RepoPath::block(&read.id).as_str()).is_file(), "{}", read.id);
    }
}

#[test]
fn a_big_endian_client_believes_no_more_than_others() {
    let Some(big) = BigEndian::new() else { return };
    let (lab, key) = repository();
    let server = WebServer::new(&lab.path("a"));
    let source = format!("{}/os", server.url());
    let home = lab.path("big");
    let fails = |expected: i32, key: &str| {
        let output = big.run(&home, &["fetch", "--key", key, &source]);
        let said = stderr(&output);
        println!("{}: {}", code(&output), said.trim());
        assert_eq!(code(&output), expected, "{said}");
        assert!(files(&home.join("cache")).keys().all(|path| !path.starts_with("hfl/blocks")), "nothing was fetched");
    };
    fails(3, &crate::support::format_fixtures::golden_key().to_string());
    let head = fs::read(lab.path("a/os.head")).unwrap();
    let changed = String::from_utf8(head.clone()).unwrap().replacen(" -\n--\n", " changed\n--\n", 1);
    assert!(changed.as_bytes() != head);
    lab.write("a/os.head", changed);
    fails(3, &key);
    lab.write("a/os.head", head);
    let indexes: Vec<String> = lab.files("a/index/os").into_iter().filter(|name| name.ends_with(".idx")).collect();
    let newest = indexes.iter().find(|name| name.starts_with("2-")).unwrap();
    let mut index = fs::read(lab.path("a/index/os").join(newest)).unwrap();
    *index.last_mut().unwrap() ^= 1;
    lab.write(&format!("a/index/os/{newest}"), index);
    fails(3, &key);
}

/// Covers the extent map, and a protocol whose integers have the opposite byte order to this machine's.
#[test]
fn a_big_endian_client_exports_the_image() {
    let Some(big) = BigEndian::new() else { return };
    let lab = Lab::new();
    let original = crate::support::fixture::image((12 << 20) + 1234);
    crate::support::fixture::Publish::default().write(&lab.path("a"), &original);
    let server = WebServer::new(&lab.path("a"));
    let home = lab.path("big");
    fs::create_dir(&home).unwrap();
    let begun = Instant::now();
    let exported = Exported::by(big.command(&home), &home, &[], &format!("{}/test", server.url()));
    let (mut plain, size) = Plain::open(exported.socket(), Speech::Structured);
    assert_eq!(size, original.len() as u64);
    let mut read = Vec::new();
    while read.len() < original.len() {
        let bytes = NBD_BYTES.min((original.len() - read.len()) as u32);
        plain.ask(0, 0, read.len() as u64, bytes);
        let (_, reply) = plain.reply();
        assert_eq!((reply.error, reply.data.len()), (0, bytes as usize));
        read.extend(reply.data);
    }
    assert!(read == original);
    println!("{} bytes in {:.1} s", read.len(), begun.elapsed().as_secs_f64());
    exported.end();
}
