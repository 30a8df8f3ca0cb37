//! Shared by all tests: a directory for each test, the real programs, real images, and a checker of
//! mirrors.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use hfl::format::block::Block;
use hfl::format::head::{SignedHead, Trust};
use hfl::format::index::Index;
use hfl::format::layout::RepoPath;

/// A directory for one test, with its own configuration and cache.
pub struct Lab {
    directory: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Lab {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory"), environment: Vec::new() }
    }

    /// A lab with a mirrors.toml that contains these directory mirrors.
    pub fn with_mirrors(names: &[&str]) -> Self {
        let lab = Self::new();
        let table = |name: &&str| format!("[[mirror]]\nname = \"{name}\"\nwrite = \"./{name}\"\n");
        lab.write("mirrors.toml", names.iter().map(table).collect::<String>());
        lab
    }

    /// Sets an environment variable for every hfl in this lab.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub fn write(&self, file: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(&path, bytes).expect("a file");
        path
    }

    /// The command hfl with these arguments, in this lab.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hfl"));
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        command.env_remove("HFL_KEY").env_remove("CI").env("HOME", self.path("home"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
            .env("XDG_STATE_HOME", self.path("home/state"));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("hfl runs")
    }

    /// Runs hfl, expects success, returns standard output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(code(&output), 0, "hfl {arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs hfl, expects this exit code, returns standard error.
    pub fn fails(&self, expected: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(code(&output), expected, "hfl {arguments:?}: {}", stderr(&output));
        let text = stderr(&output);
        assert!(!text.contains("panicked"), "{text}");
        text
    }

    /// Publishes with JSON and returns the report.
    pub fn publish(&self, arguments: &[&str]) -> serde_json::Value {
        let all: Vec<&str> = ["publish"].into_iter().chain(arguments.iter().copied()).collect();
        let all: Vec<&str> = all.into_iter().chain(["--to", "mirrors.toml", "--json"]).collect();
        serde_json::from_str(&self.ok(&all)).expect("JSON")
    }

    /// Trust of a client that pinned this lab's key for `image`.
    pub fn trust(&self, image: &str) -> Trust {
        let key = fs::read_to_string(self.path(&format!("home/.config/hfl/keys/{image}.pub"))).expect("a public key");
        Trust::Key(key.parse().expect("a public key"))
    }

    /// Deletes the recorded state of published and seen versions. Needed if the mirrors are reset to an
    /// older state.
    pub fn forget(&self) {
        let _ = fs::remove_dir_all(self.path("home/state/hfl"));
    }

    /// Files below a directory of the lab, sorted.
    pub fn files(&self, directory: &str) -> Vec<String> {
        let base = self.path(directory);
        let entries = walkdir::WalkDir::new(&base).sort_by_file_name().into_iter().flatten();
        let files = entries.filter(|e| e.file_type().is_file());
        files.map(|e| e.path().strip_prefix(&base).expect("below").display().to_string()).collect()
    }
}

/// A mounted file system, unmounted on drop.
pub struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    /// A small tmpfs.
    pub fn tmpfs(point: &'a Path, size: &str) -> Option<Self> {
        Self::mount(point, &["-t", "tmpfs", "-o", &format!("size={size},mode=0755"), "tmpfs"])
    }

    /// An image, read-only.
    pub fn image(point: &'a Path, image: &Path) -> Option<Self> {
        Self::mount(point, &["-o", "loop,ro", &image.display().to_string()])
    }

    fn mount(point: &'a Path, arguments: &[&str]) -> Option<Self> {
        fs::create_dir_all(point).unwrap();
        let mounted = Command::new("mount").args(arguments).arg(point).output().unwrap();
        if mounted.status.success() { Some(Self(point)) } else { or_skip(Err(format!("cannot mount {arguments:?}"))) }
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

/// Runs a system program in the lab's directory. Returns `None`, with a skip message, if it is not installed.
pub fn tool(lab: &Lab, name: &str, arguments: &[&str], input: &str) -> Option<()> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(name);
    command.args(arguments).current_dir(lab.path("")).env("PATH", path).stdin(Stdio::piped());
    let Ok(mut child) = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn() else {
        return or_skip(Err(format!("no {name}")));
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {}", stderr(&output));
    Some(())
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A real system's image from HFL_IMAGES, the directory that benches/images.sh fills, or the reason why
/// it is missing.
pub fn real_image(kind: &str, name: &str) -> Result<PathBuf, String> {
    let images = std::env::var_os("HFL_IMAGES").ok_or("HFL_IMAGES names no directory of benches/images.sh")?;
    let image = PathBuf::from(images).join(kind).join(name);
    if image.is_file() { Ok(image) } else { Err(format!("no {kind}/{name} in HFL_IMAGES")) }
}

/// The requirement of a test. `None`, with a skip message, if it is missing.
pub fn or_skip<T>(needed: Result<T, String>) -> Option<T> {
    needed.map_err(|why| skipped(&why)).ok()
}

/// Prints that a test is skipped, in the words that the test script counts.
pub fn skipped(why: &str) {
    println!("skipped: {why}");
}

/// Whether the long forms of the tests are enabled.
pub fn full() -> bool {
    std::env::var_os("HFL_FULL").is_some()
}

/// A pseudo-random number generator (splitmix64): the same data in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Bytes that compress to about half.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(length + 8);
        while out.len() < length {
            out.extend_from_slice(&self.next().to_le_bytes()[..4]);
            out.extend_from_slice(b"text");
        }
        out.truncate(length);
        out
    }
}

/// Creates a file tree that resembles a small system. `seed` selects the contents.
pub fn make_tree(tree: &Path, files: usize, seed: u64) {
    let mut random = Random(seed);
    for i in 0..files {
        let directory = tree.join(format!("usr/lib/part{:02}", i % 17));
        fs::create_dir_all(&directory).expect("a directory");
        let length = 200 + random.below(if i % 20 == 0 { 400_000 } else { 20_000 }) as usize;
        fs::write(directory.join(format!("file{i:04}")), random.bytes(length)).expect("a file");
    }
}

/// Makes a real ext4 image of a tree.
pub fn make_ext4(tree: &Path, image: &Path, size: &str) {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("E2FSPROGS_FAKE_TIME", "1750000000");
    let uuid = "5d67c791-a884-4f66-8d67-000000000001";
    mke2fs.args(["-q", "-F", "-t", "ext4", "-U", uuid, "-E", &format!("hash_seed={uuid}"), "-d"]);
    let made = mke2fs.arg(tree).arg(image).arg(size).output().expect("mke2fs is installed (e2fsprogs)");
    assert!(made.status.success(), "{}", stderr(&made));
}

/// Makes `one.img` and `two.img` in the lab: ext4 with `files` files; the second is rebuilt after half
/// of the files changed.
pub fn two_images(lab: &Lab, files: usize) {
    make_tree(&lab.path("tree"), files, 5);
    make_ext4(&lab.path("tree"), &lab.path("one.img"), "48M");
    for i in 0..files / 2 {
        lab.write(&format!("tree/usr/lib/part{:02}/file{i:04}", i % 17), Random(i as u64).bytes(20_000));
    }
    make_ext4(&lab.path("tree"), &lab.path("two.img"), "48M");
}

/// Checks the invariants of a mirror: the head and its indexes verify, and every block is present and
/// correct. Returns the versions, newest first; none if there is no head.
pub fn check_mirror(mirror: &Path, image: &str, trust: &Trust) -> Vec<u32> {
    let image = image.parse().expect("a name");
    let Ok(file) = fs::read(mirror.join(RepoPath::head(&image).as_str())) else { return Vec::new() };
    let head = SignedHead::parse(&file).expect("a head").verify(trust).expect("a believed head");
    let images = fs::read_to_string(mirror.join("images")).expect("a list of images");
    assert!(images.lines().any(|line| line == image.as_str()), "the image is listed");
    let mut checked = std::collections::HashSet::new();
    for row in &head.versions {
        let file = fs::read(mirror.join(row.index_path(&image).as_str())).expect("an index");
        assert_eq!(hfl::format::digest::Sha256::of(&file), row.index_sha256, "the index that the head names");
        let index = Index::parse(&file).expect("an index");
        for block in index.blocks().iter().filter(|block| checked.insert(block.id)) {
            let file = fs::read(mirror.join(RepoPath::block(&block.id).as_str())).expect("a block");
            Block::open(block, &file).expect("the right block");
        }
    }
    head.versions.iter().map(|row| row.version.number()).collect()
}
