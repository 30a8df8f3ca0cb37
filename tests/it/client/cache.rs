//! The disk cache of real mounts: shared, after a power cut, full, read-only, missing, very large. Reads
//! return correct data in all cases.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use hfl::format::block::Block;
use hfl::format::index::Index;
use hfl::format::layout::RepoPath;
use tempfile::TempDir;

use crate::support::fixture::{Publish, image};
use crate::support::lab::{full, skipped};
use crate::support::mounting::{Asked, Mounted, WebServer, cannot_mount, run, status};

/// A repository in `home/a`, its image, and a server that records block requests.
struct Lab {
    home: TempDir,
    bytes: Vec<u8>,
    index: Index,
    server: WebServer,
    asked: std::sync::Arc<Asked>,
}

impl Lab {
    fn new(image_bytes: usize) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (base, bytes) = (home.path().join("a"), image(image_bytes));
        let index = Publish::default().write(&base, &bytes);
        let (server, asked) = WebServer::noting(&base, Duration::ZERO);
        Self { home, bytes, index, server, asked }
    }

    fn mount(&self, arguments: &[&str]) -> Mounted {
        let arguments = [&["--unsigned"], arguments].concat();
        Mounted::new(self.home.path(), &arguments, &[&self.server.url()], "test")
    }

    /// Reads and checks the whole image. Returns the number of blocks requested from the server.
    fn read(&self, mounted: &Mounted) -> usize {
        let _ = self.asked.take();
        assert!(fs::read(mounted.file()).unwrap() == self.bytes);
        self.asked.take().len()
    }

    fn cache(&self) -> PathBuf {
        self.home.path().join("cache/hfl")
    }

    fn file(&self, block: usize) -> PathBuf {
        self.cache().join(RepoPath::block(&self.index.blocks()[block].id).as_str())
    }
}

#[test]
fn a_block_that_one_process_fetched_is_fetched_by_no_other() {
    if cannot_mount() {
        return;
    }
    let lab = Lab::new(16 << 20);
    let blocks = lab.index.blocks().len();
    let mounts: Vec<Mounted> = (0..3).map(|_| lab.mount(&["--memory", "1M"])).collect();
    let _ = lab.asked.take();
    std::thread::scope(|scope| {
        for mounted in &mounts {
            scope.spawn(|| assert!(fs::read(mounted.file()).unwrap() == lab.bytes));
        }
    });
    let at_once = lab.asked.take().len();
    let late = lab.mount(&["--memory", "1M"]);
    let after = lab.read(&late);
    println!("{blocks} blocks: three processes at once asked for {at_once}, a fourth one later for {after}");
    assert!(at_once < 3 * blocks, "what one has written, the others find");
    assert_eq!(after, 0);
    let half = lab.bytes.len() / 2;
    for block in 0..blocks {
        fs::remove_file(lab.file(block)).unwrap();
    }
    drop_page_cache(&mounts[0]);
    drop_page_cache(&mounts[1]);
    let mut part = vec![0; half];
    read_exact(&mounts[0], &mut part);
    let first: HashSet<String> = lab.asked.take().into_iter().collect();
    std::thread::sleep(Duration::from_millis(300));
    assert!(fs::read(mounts[1].file()).unwrap() == lab.bytes);
    let second = lab.asked.take();
    println!("one fetched {} of the first half, the other one then {} in all", first.len(), second.len());
    assert!(!first.is_empty() && !second.iter().any(|block| first.contains(block)), "none twice");
    mounts.into_iter().chain([late]).for_each(|mounted| drop(mounted.end()));
}

fn read_exact(mounted: &Mounted, part: &mut [u8]) {
    use std::io::Read as _;
    fs::File::open(mounted.file()).unwrap().read_exact(part).unwrap();
}

/// Drops the file's pages from the kernel's page cache.
fn drop_page_cache(mounted: &Mounted) {
    let file = fs::File::open(mounted.file()).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

/// Damages cache files as a power cut does on a file system with weak guarantees. Returns their number.
fn cut_power(lab: &Lab) -> usize {
    let bad: [fn(&Path); 4] = [
        |path| fs::write(path, vec![0; fs::metadata(path).unwrap().len() as usize]).unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        },
        |path| {
            let mut bytes = fs::read(path).unwrap();
            let half = bytes.len() / 2;
            bytes[half..].fill(0);
            fs::write(path, bytes).unwrap();
        },
    ];
    let mut damaged = 0;
    for (block, damage) in (0..lab.index.blocks().len()).step_by(2).zip(bad.iter().cycle()) {
        damage(&lab.file(block));
        damaged += 1;
    }
    let mut flipped = fs::read(lab.file(1)).unwrap();
    flipped[20] ^= 1;
    fs::write(lab.file(1), flipped).unwrap();
    damaged + 1
}

#[test]
fn a_power_cut_costs_what_it_damaged_and_nothing_else() {
    if cannot_mount() {
        return;
    }
    let lab = Lab::new(12 << 20);
    let mounted = lab.mount(&[]);
    lab.read(&mounted);
    mounted.end();
    let damaged = cut_power(&lab);
    let index = fs::read_dir(lab.cache().join("index/test")).unwrap().flatten().map(|e| e.path()).next().unwrap();
    let whole: Vec<(PathBuf, Vec<u8>)> = [index, lab.cache().join("test.head"), lab.cache().join("images")]
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    whole.iter().for_each(|(path, bytes)| fs::write(path, vec![0; bytes.len()]).unwrap());
    let temporary = lab.cache().join(".hfl-tmp");
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let left = [format!("{}-0", child.id()), format!("{}-7", child.id())].map(|name| temporary.join(name));
    left.iter().for_each(|path| fs::write(path, [0; 4096]).unwrap());
    let (alive, old) = (temporary.join(format!("{}-0", std::process::id())), temporary.join("1-0"));
    [&alive, &old].into_iter().for_each(|path| fs::write(path, "x").unwrap());
    let ago = SystemTime::now() - Duration::from_secs(7200);
    fs::File::options().write(true).open(&old).unwrap().set_modified(ago).unwrap();

    let mounted = lab.mount(&[]);
    let fetched = lab.read(&mounted);
    let healed = status(lab.home.path(), &mounted)["disk_healed"].as_u64().unwrap();
    println!("{damaged} files damaged: {fetched} blocks fetched, {healed} healed");
    assert_eq!((fetched, healed), (damaged, damaged as u64));
    let said = mounted.end();
    assert!(said.contains(&format!("{damaged} bad files of the cache were dropped")), "{said}");
    for (path, bytes) in whole {
        assert!(fs::read(&path).unwrap() == bytes, "{} is whole again", path.display());
    }
    assert!(left.iter().all(|path| !path.exists()) && !old.exists(), "leftovers are swept");
    assert!(alive.exists(), "what a process that runs is writing is not");
    for row in lab.index.blocks() {
        let file = fs::read(lab.cache().join(RepoPath::block(&row.id).as_str())).unwrap();
        Block::open(row, &file).unwrap();
    }
}

/// A small tmpfs, unmounted on drop.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn new(place: PathBuf, options: &str) -> Option<Self> {
        fs::create_dir_all(&place).unwrap();
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&place).output().unwrap();
        if !done.status.success() {
            skipped(&format!("no tmpfs: {}", String::from_utf8_lossy(&done.stderr)));
            return None;
        }
        Some(Self(place))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_or_read_only_disk_means_less_caching_and_one_line() {
    if cannot_mount() {
        return;
    }
    for (options, some) in [("size=1m", true), ("size=1m,ro", false)] {
        let lab = Lab::new(12 << 20);
        let Some(tmpfs) = Tmpfs::new(lab.home.path().join("cache"), options) else { return };
        if !some {
            // The cache directory must exist; a missing directory is a different case.
            let remount = |how| Command::new("mount").args(["-o", how]).arg(&tmpfs.0).status().unwrap().success();
            assert!(remount("remount,rw"));
            fs::create_dir(lab.cache()).unwrap();
            assert!(remount("remount,ro"));
        }
        let started = Instant::now();
        let mounted = lab.mount(&["--memory", "1M"]);
        let first = lab.read(&mounted);
        drop_page_cache(&mounted);
        let second = lab.read(&mounted);
        let from_disk = status(lab.home.path(), &mounted)["disk_blocks"].as_u64().unwrap();
        let said = mounted.end();
        println!("{options}: {first} blocks fetched, then {second}; {from_disk} from disk");
        let blocks = lab.index.blocks().len();
        assert!(first >= blocks && some == (from_disk > 0) && (some || second >= blocks), "{blocks} blocks");
        // The warning repeats every ten seconds, and on a loaded machine the run may take longer than
        // that.
        let most = 1 + started.elapsed().as_secs() as usize / 10;
        let lines = said.lines().filter(|line| line.contains("nothing is cached on disk")).count();
        let others = said.lines().count() - lines;
        assert!((1..=most).contains(&lines) && others <= 2, "{said}");
    }
}

#[test]
fn a_cache_directory_that_cannot_be_made_is_said_so() {
    if cannot_mount() {
        return;
    }
    let lab = Lab::new(2 << 20);
    let Some(_tmpfs) = Tmpfs::new(lab.home.path().join("cache"), "size=1m,ro") else { return };
    let mounted = lab.mount(&[]);
    assert_eq!(lab.read(&mounted), lab.index.blocks().len());
    let said = mounted.end();
    assert!(said.contains("nothing is cached on disk") && said.contains("cache/hfl"), "{said}");
}

#[test]
fn without_a_disk_everything_is_in_memory() {
    if cannot_mount() {
        return;
    }
    let lab = Lab::new(8 << 20);
    for arguments in [["--cache", "none"].as_slice(), &["--no-cache"]] {
        let mounted = lab.mount(arguments);
        assert_eq!(lab.read(&mounted), lab.index.blocks().len());
        drop_page_cache(&mounted);
        assert_eq!(lab.read(&mounted), 0, "from memory");
        assert_eq!(status(lab.home.path(), &mounted)["disk_blocks"], 0);
        mounted.end();
        assert!(!lab.cache().exists() && !Path::new("none").exists());
    }
    let source = format!("{}/test", lab.server.url());
    let output = run(lab.home.path(), &["fetch", "--unsigned", "--cache", "none", &source]);
    let said = crate::support::lab::stderr(&output);
    assert!(output.status.code() == Some(2) && said.contains("--cache none"), "{said}");
    let both = run(lab.home.path(), &["--unsigned", "--cache", "x", "--no-cache", &source, "/mnt"]);
    assert_eq!(both.status.code(), Some(2));
    let help = String::from_utf8(run(lab.home.path(), &["--help"]).stdout).unwrap();
    assert!(help.contains("or `none`") && help.contains("the same as --cache none"), "{help}");
}

/// Fills the cache with files named like blocks, older than anything that is read.
fn fill(cache: &Path, files: usize) {
    let ago = SystemTime::now() - Duration::from_secs(86_400);
    for n in 0..files {
        let directory = cache.join(format!("blocks/{:02x}", n % 256));
        if n < 256 {
            fs::create_dir_all(&directory).unwrap();
        }
        let path = directory.join(format!("{:02x}{n:038x}", n % 256));
        let file = fs::File::create(path).unwrap();
        std::io::Write::write_all(&mut &file, &[7; 100]).unwrap();
        file.set_modified(ago).unwrap();
    }
}

fn count(cache: &Path) -> usize {
    walkdir::WalkDir::new(cache.join("blocks")).into_iter().flatten().filter(|e| e.file_type().is_file()).count()
}

#[test]
fn a_cache_of_very_many_files_is_mounted_as_fast_as_an_empty_one() {
    if cannot_mount() {
        return;
    }
    let lab = Lab::new(4 << 20);
    let files = if full() { 300_000 } else { 20_000 };
    // Each file occupies 4 KiB on disk, so half of them must be evicted.
    let limit = (files * 2048).to_string();
    let mount = || {
        let start = Instant::now();
        let mounted = lab.mount(&["--cache-size", &limit]);
        let mut first = [0; 4096];
        read_exact(&mounted, &mut first);
        (start.elapsed(), mounted)
    };
    let best = |times: &mut dyn FnMut() -> Duration| (0..3).map(|_| times()).min().unwrap();
    let empty = best(&mut || {
        let (took, mounted) = mount();
        mounted.end();
        took
    });
    fill(&lab.cache(), files);
    let (took, mounted) = mount();
    let (left_then, start) = (count(&lab.cache()), Instant::now());
    lab.read(&mounted);
    while count(&lab.cache()) * 4096 > files * 2048 && start.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let left = count(&lab.cache());
    mounted.end();
    println!(
        "empty {empty:?}; {files} files {took:?}, of which {left_then} were left then, and {left} after {:?}",
        start.elapsed()
    );
    assert!(took < empty * 3 + Duration::from_millis(500), "{took:?} instead of {empty:?}");
    assert!(left * 4096 <= files * 2048 && left > files / 4, "{left} of {files} files");
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().flatten();
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

#[test]
fn a_mirror_that_is_named_as_the_cache_keeps_all_it_has() {
    let home = tempfile::tempdir().unwrap();
    let base = home.path().join("a");
    for version in 1..=6 {
        let bytes = crate::support::fixture::Random(version).bytes(2 << 20);
        Publish { version, ..Publish::default() }.write(&base, &bytes);
    }
    let (before, point) = (files(&base), home.path().join("point"));
    fs::create_dir(&point).unwrap();
    let (source, cache) = (format!("{}/test", base.display()), base.display().to_string());
    let options = ["--unsigned", "--cache", &cache, "--cache-size", "3M", &source];
    let socket = home.path().join("socket").display().to_string();
    let runs = [
        [&["fetch"][..], &options].concat(),
        [&options[..], &[point.to_str().unwrap()]].concat(),
        [&["nbd"][..], &options, &["--socket", &socket]].concat(),
    ];
    for words in runs {
        let output = run(home.path(), &words);
        let said = crate::support::lab::stderr(&output);
        assert!(output.status.code() == Some(1) && said.contains("no cache of hfl"), "{words:?}: {said}");
        assert!(said.contains("an empty or new directory"), "{said}");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(files(&base), before, "{words:?}");
    }
}

#[test]
fn a_cache_carries_a_mark_and_nothing_is_published_there() {
    let lab = crate::support::lab::Lab::new();
    let (base, cache) = (lab.path("a"), lab.path("cache"));
    Publish::default().write(&base, &image(2 << 20));
    let fetch = |cache: &Path| {
        let (source, cache) = (format!("{}/test", base.display()), cache.display().to_string());
        run(&lab.path("home"), &["fetch", "--unsigned", "--cache", &cache, &source])
    };
    // A new cache, the same one again, and an empty file system.
    assert!(fetch(&cache).status.success());
    let mark = fs::read_to_string(cache.join("CACHEDIR.TAG")).unwrap();
    assert!(mark.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n") && mark.contains("hfl"), "{mark}");
    assert!(fetch(&cache).status.success());
    fs::create_dir_all(lab.path("disk/lost+found")).unwrap();
    assert!(fetch(&lab.path("disk")).status.success());
    // Another program's cache directory, a directory without a tag, and a directory whose tag is a
    // symbolic link.
    let others =
        "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag created by cargo.\n";
    lab.write("target/CACHEDIR.TAG", others);
    lab.write("thesis/chapter1", "mine");
    fs::create_dir(lab.path("linked")).unwrap();
    std::os::unix::fs::symlink(cache.join("CACHEDIR.TAG"), lab.path("linked/CACHEDIR.TAG")).unwrap();
    for other in ["target", "thesis", "linked"] {
        let (before, output) = (lab.files(other), fetch(&lab.path(other)));
        assert_eq!(output.status.code(), Some(1), "{other}: {}", crate::support::lab::stderr(&output));
        assert_eq!(lab.files(other), before);
    }
    lab.write("mirrors.toml", "[[mirror]]\nname = \"c\"\nwrite = \"./cache\"\n");
    lab.write("one.img", image(1 << 20));
    for words in [&["publish", "one.img", "--name", "other"][..], &["sync"], &["gc"]] {
        let before = lab.files("cache");
        let said = lab.fails(1, &[words, &["--to", "mirrors.toml"]].concat());
        assert!(said.contains("is a cache of hfl-mount, no mirror"), "{words:?}: {said}");
        assert_eq!(lab.files("cache"), before);
    }
}

#[test]
fn a_machine_starts_without_a_cache_rather_than_not_at_all() {
    if cannot_mount() {
        return;
    }
    let lab = Lab::new(2 << 20);
    let other = lab.home.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("mine"), "mine").unwrap();
    let mut mounted = lab.mount(&["--root", "--cache", other.to_str().unwrap()]);
    lab.read(&mounted);
    assert_eq!(files(&other), [other.join("mine")]);
    assert!(Command::new("umount").arg(mounted.point()).status().unwrap().success());
    assert!(mounted.status().success());
}
