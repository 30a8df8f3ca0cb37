//! Compares `hfl publish` with the machine's limit, and with casync.
//!
//!     cargo bench --bench publish -- IMAGE
//!
//! The limit is the same work without output: every core takes 256 KiB of the image's data, reads it,
//! hashes it twice, compresses it and inflates it back, with the same codec. All runs alternate in one
//! process and the best of each counts, so the ratios hold on a loaded machine. The casync row needs
//! casync. The memory row uses a generated image.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hfl::format::block::{Codec, Compressor, digests};

const CHUNK: usize = 256 << 10;
const ROUNDS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(image) = arguments.first() else {
        println!("publish: skipped: no image was named (cargo bench --bench publish -- IMAGE)");
        return;
    };
    let lab = tempfile::tempdir().expect("a directory");
    let bench = Bench { image: image.into(), lab, directories: AtomicUsize::new(0) };
    bench.first_publish();
    bench.nothing_changed();
    bench.memory();
}

struct Bench {
    image: PathBuf,
    lab: tempfile::TempDir,
    directories: AtomicUsize,
}

impl Bench {
    fn first_publish(&self) {
        let (mut bound, mut hfl, mut casync) = (Duration::MAX, Duration::MAX, Duration::MAX);
        for _ in 0..ROUNDS {
            bound = bound.min(self.bound(true));
            hfl = hfl.min(self.publish(&self.image, true).0);
            casync = casync.min(self.casync().unwrap_or(Duration::MAX));
        }
        println!("first publish: bound {bound:.2?}, hfl {hfl:.2?}");
        verdict("bound / hfl", bound.as_secs_f64() / hfl.as_secs_f64(), 0.9);
        if casync == Duration::MAX {
            println!("  skipped: casync cannot be run");
        } else {
            println!("  casync make --compression=gzip --chunk-size=262144: {casync:.2?}");
            verdict("casync / hfl", casync.as_secs_f64() / hfl.as_secs_f64(), 7.0);
        }
    }

    fn nothing_changed(&self) {
        let changed = self.lab.path().join("changed.img");
        let copied = Command::new("cp").arg("--sparse=always").arg(&self.image).arg(&changed).status();
        assert!(copied.expect("cp runs").success());
        let file = File::options().read(true).write(true).open(&changed).expect("a copy");
        let mut byte = [0];
        let (mut bound, mut same, mut one) = (Duration::MAX, Duration::MAX, Duration::MAX);
        self.publish(&self.image, true);
        for _ in 0..ROUNDS {
            bound = bound.min(self.bound(false));
            same = same.min(self.publish(&self.image, false).0);
        }
        for _ in 0..ROUNDS {
            bound = bound.min(self.bound(false));
            file.read_exact_at(&mut byte, 64 << 20).expect("a read");
            file.write_all_at(&[byte[0].wrapping_add(1)], 64 << 20).expect("a write");
            one = one.min(self.publish(&changed, false).0);
        }
        println!("the same image again: bound (read, both hashes) {bound:.2?}, hfl {same:.2?}");
        verdict("bound / hfl", bound.as_secs_f64() / same.as_secs_f64(), 0.8);
        println!("one block changed: hfl {one:.2?}");
        verdict("bound / hfl", bound.as_secs_f64() / one.as_secs_f64(), 0.8);
    }

    /// A sparse image of 64 GiB with 2 GiB of data, a quarter of it compressible.
    fn memory(&self) {
        let path = self.lab.path().join("large.img");
        let file = File::create(&path).expect("a file");
        file.set_len(64 << 30).expect("a sparse file");
        let mut random = File::open("/dev/urandom").expect("random bytes");
        let mut piece = vec![0; 1 << 20];
        for i in 0..2048_u64 {
            random.read_exact(&mut piece[..(1 << 20) / 4 * 3]).expect("random bytes");
            file.write_all_at(&piece, i * (32 << 20)).expect("a write");
        }
        let (time, peak) = self.publish(&path, true);
        println!("64 GiB sparse, 2 GiB of data: {time:.2?}, peak memory {} MiB", peak >> 20);
        verdict("150 MiB / peak", (150 << 20) as f64 / peak as f64, 1.0);
    }

    /// The work without output, on all cores.
    fn bound(&self, compress: bool) -> Duration {
        let file = File::open(&self.image).expect("the image");
        let chunks = data_chunks(&file);
        let next = AtomicUsize::new(0);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(|| {
                    let (mut sealer, mut buffer) = (Compressor::new(Codec::default()), vec![0; CHUNK]);
                    while let Some(&(at, length)) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                        file.read_exact_at(&mut buffer[..length], at).expect("a read");
                        let bytes = &buffer[..length];
                        if bytes.iter().all(|&b| b == 0) {
                            continue;
                        }
                        let (id, sha256) = digests(bytes);
                        if compress {
                            std::hint::black_box(sealer.seal(bytes, id, sha256).expect("a block"));
                        }
                        std::hint::black_box((id, sha256));
                    }
                });
            }
        });
        started.elapsed()
    }

    /// Runs the real program. Returns its time and its peak memory.
    fn publish(&self, image: &Path, empty: bool) -> (Duration, u64) {
        let lab = self.lab.path();
        if empty {
            let toml = format!("[[mirror]]\nname = \"a\"\nwrite = \"./public-{}\"\n", self.fresh());
            fs::write(lab.join("mirrors.toml"), toml).expect("a file");
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_hfl"));
        command.arg("publish").arg(image).args(["--name", "bench", "--to", "mirrors.toml", "--json"]);
        command.current_dir(lab).env("HOME", lab).env_remove("XDG_CONFIG_HOME").env_remove("XDG_CACHE_HOME");
        let started = Instant::now();
        let mut child = command.stdout(Stdio::null()).spawn().expect("hfl runs");
        let mut peak = 0;
        let status = loop {
            peak = peak.max(high_water(child.id()));
            match child.try_wait().expect("a status") {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        assert!(status.success());
        (started.elapsed(), peak)
    }

    /// A number for a new directory: ext4 creates files slowly in a directory from which many were just
    /// deleted.
    fn fresh(&self) -> usize {
        self.directories.fetch_add(1, Ordering::Relaxed)
    }

    fn casync(&self) -> Option<Duration> {
        let store = self.lab.path().join(format!("store-{}.castr", self.fresh()));
        let mut command = Command::new("casync");
        command.args(["make", "--compression=gzip", "--chunk-size=262144", "--store"]).arg(&store);
        command.arg(self.lab.path().join("image.caibx")).arg(&self.image);
        let started = Instant::now();
        let status = command.stdout(Stdio::null()).status().ok()?;
        status.success().then(|| started.elapsed())
    }
}

/// The data ranges of the file, in pieces of at most [`CHUNK`].
fn data_chunks(file: &File) -> Vec<(u64, usize)> {
    use rustix::fs::SeekFrom::{Data, Hole};
    let mut chunks = Vec::new();
    let mut at = 0;
    while let Ok(start) = rustix::fs::seek(file, Data(at)) {
        let end = rustix::fs::seek(file, Hole(start)).expect("the end of the data");
        at = start;
        while at < end {
            let length = CHUNK.min((end - at) as usize);
            chunks.push((at, length));
            at += length as u64;
        }
    }
    chunks
}

/// Peak memory of a process, in bytes.
fn high_water(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().map_or(0, |kib| kib << 10)
}

fn verdict(what: &str, ratio: f64, wanted: f64) {
    let word = if ratio >= wanted { "PASS" } else { "FAIL" };
    println!("  {word}  {what} = {ratio:.2} (wanted: at least {wanted})");
    let _ = std::io::stdout().flush();
}
