//! `--root`: a client that serves the root file system cannot be stopped by signals, and needs nothing
//! that may disappear.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::fixture::{Publish, image};
use crate::support::lab::{full, skipped};
use crate::support::mounting::{Mounted, WebServer, cannot_mount, client, run};
use crate::support::proxy::Proxy;
use crate::support::through::through;

/// A value of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
}

fn kilobytes(pid: u32, name: &str) -> u64 {
    status(pid, name).trim_end_matches(" kB").parse().unwrap()
}

/// Whether root has CAP_SYS_RESOURCE on this machine.
fn may_take_resources() -> bool {
    let held = u64::from_str_radix(&status(std::process::id(), "CapEff"), 16).unwrap();
    held & 1 << 24 != 0
}

fn repository() -> (TempDir, Vec<u8>) {
    let home = tempfile::tempdir().unwrap();
    let bytes = image(24 << 20);
    Publish::default().write(&home.path().join("a"), &bytes);
    (home, bytes)
}

#[test]
fn it_is_out_of_everybodys_reach() {
    if cannot_mount() {
        return;
    }
    let (home, bytes) = repository();
    let server = WebServer::new(&home.path().join("a"));
    let source = [format!("{}/test", server.url())];
    let plain = Mounted::named(home.path(), &["--unsigned", "--no-cache", "--mode", "hard"], &source, "test");
    assert!(fs::read(plain.file()).unwrap() == bytes);
    let usual = kilobytes(plain.pid(), "VmRSS");
    plain.end();

    let mut mounted = Mounted::named(home.path(), &["--unsigned", "--no-cache", "--root"], &source, "test");
    let pid = mounted.pid();
    assert!(fs::read(mounted.file()).unwrap() == bytes);
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(words.starts_with(b"@hfl-mount\0--foreground\0"), "{}", String::from_utf8_lossy(&words));
    assert_eq!(status(pid, "Name"), "hfl-mount");
    let (locked, resident) = (kilobytes(pid, "VmLck"), kilobytes(pid, "VmRSS"));
    println!("{resident} kB resident, {usual} kB without --root; {locked} kB of addresses are locked");
    assert!(locked > 0 && resident < usual + (16 << 10));
    if may_take_resources() {
        assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "-1000");
    } else {
        skipped("oom_score_adj and PR_SET_IO_FLUSHER: no CAP_SYS_RESOURCE here");
    }
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
        mounted.signal(signal);
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(mounted.is_mounted() && fs::read(mounted.file()).unwrap() == bytes);
    assert!(Command::new("umount").arg(mounted.point()).status().unwrap().success());
    assert!(mounted.status().success(), "unmounting ends it");
    let clash = run(home.path(), &["--root", "--mode", "soft", "--unsigned", &source[0], "/"]);
    assert_eq!(clash.status.code(), Some(2));
}

/// All signals, except the two that cannot be ignored and the two by which the standard library detects
/// a stack overflow. The C library reserves 32 and 33.
fn signals() -> impl Iterator<Item = u32> {
    let spared = [Signal::KILL, Signal::STOP, Signal::SEGV, Signal::BUS].map(|signal| signal.as_raw() as u32);
    (1..=31).chain(34..=64).filter(move |signal| !spared.contains(signal))
}

#[test]
fn no_signal_ends_or_stops_it() {
    if cannot_mount() {
        return;
    }
    let (home, bytes) = repository();
    let source = [format!("{}/test", home.path().join("a").display())];
    let mut mounted = Mounted::named(home.path(), &["--unsigned", "--no-cache", "--root"], &source, "test");
    let pid = mounted.pid().to_string();
    for signal in signals() {
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
        std::thread::sleep(Duration::from_millis(20));
        let state = status(mounted.pid(), "State");
        assert!(!state.starts_with(['T', 'Z', 'X']), "after signal {signal}: {state}");
    }
    assert!(mounted.is_mounted() && fs::read(mounted.file()).unwrap() == bytes);
    assert!(Command::new("umount").arg(mounted.point()).status().unwrap().success());
    assert!(mounted.status().success(), "unmounting ends it");
}

/// A client in a mount namespace of its own: what is mounted over its files is invisible to others.
struct Apart {
    child: Child,
    point: TempDir,
}

impl Apart {
    fn new(home: &TempDir, source: &str) -> Option<Self> {
        let point = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]);
        through(&mut command, &client(home.path()))
            .args(["--root", "--foreground", "--unsigned", "--memory", "1M", source])
            .arg(point.path());
        let mut child = match command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(e) => {
                skipped(&format!("unshare: {e}"));
                return None;
            }
        };
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut mounted = false;
        while !mounted {
            let Some(line) = lines.next() else { break };
            let line = line.unwrap();
            println!("{line}");
            mounted = line.contains(": version ");
        }
        if !mounted {
            let _ = child.wait();
            skipped("no mounts of one's own can be had here");
            return None;
        }
        std::thread::spawn(move || lines.for_each(|line| println!("{}", line.unwrap_or_default())));
        Some(Self { child, point })
    }

    /// The mounted file, as seen from outside.
    fn file(&self) -> PathBuf {
        let inside = self.point.path().join("test");
        PathBuf::from(format!("/proc/{}/root{}", self.child.id(), inside.display()))
    }

    /// Runs a command in its mount namespace.
    fn inside(&self, words: &[&str]) {
        let pid = self.child.id().to_string();
        let entered = Command::new("nsenter").args(["-t", &pid, "-m"]).args(words).status().unwrap();
        assert!(entered.success(), "{words:?}");
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // Its mounts end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// System calls that open files, recorded by strace.
struct Watch(Option<(Child, PathBuf)>);

impl Watch {
    fn begin(pid: u32, home: &TempDir) -> Self {
        // The client detaches from its terminal only after it has reported that it is ready.
        std::thread::sleep(Duration::from_millis(500));
        let out = home.path().join("strace");
        let calls = ["-f", "-q", "-e", "trace=open,openat,openat2,execve", "-p", &pid.to_string(), "-o"];
        let watch = Command::new("strace").args(calls).arg(&out).stderr(Stdio::null()).spawn();
        std::thread::sleep(Duration::from_secs(1));
        let mut watch = watch.ok();
        if watch.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()) {
            skipped("strace cannot be used here");
            return Self(None);
        }
        Self(watch.map(|child| (child, out)))
    }

    /// Asserts that every open was relative to a directory handle.
    fn end(self) {
        let Some((mut child, out)) = self.0 else { return };
        let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
        rustix::process::kill_process(pid, Signal::INT).unwrap();
        let _ = child.wait();
        let seen = fs::read_to_string(out).unwrap();
        // strace prints the arguments of an interrupted call on the line where the call began.
        let calls = |line: &&str| !line.contains("resumed>") && (line.contains("open") || line.contains("exec"));
        let opened: Vec<&str> = seen.lines().filter(calls).collect();
        let elsewhere = |line: &&&str| !line.contains("openat(") || line.contains("AT_FDCWD") || line.contains(", \"/");
        let elsewhere: Vec<_> = opened.iter().filter(elsewhere).collect();
        assert!(elsewhere.is_empty() && !opened.is_empty(), "{elsewhere:#?}");
        println!("{} files opened, all of them in the cache", opened.len());
    }
}

#[test]
fn without_etc_and_after_an_outage_reading_goes_on() {
    if cannot_mount() {
        return;
    }
    let (home, bytes) = repository();
    let server = WebServer::new(&home.path().join("a"));
    let proxy = Proxy::start(server.address());
    let source = format!("http://localhost:{}/test", proxy.address().port());
    let Some(apart) = Apart::new(&home, &source) else { return };
    let watch = Watch::begin(apart.child.id(), &home);
    let part = |from: usize, to: usize| {
        use std::os::unix::fs::FileExt as _;
        let mut part = vec![0; to - from];
        fs::File::open(apart.file()).unwrap().read_exact_at(&mut part, from as u64).unwrap();
        assert!(part == bytes[from..to]);
    };
    part(0, 2 << 20);
    apart.inside(&["mount", "-t", "tmpfs", "none", "/etc"]);
    let hosts = PathBuf::from(format!("/proc/{}/root/etc/hosts", apart.child.id()));
    assert!(!hosts.exists(), "/etc is hidden");
    proxy.faults().reset_all();
    part(4 << 20, 8 << 20);
    if full() {
        // Wait until host names must be resolved again, which fails.
        std::thread::sleep(Duration::from_secs(65));
        proxy.faults().reset_all();
        part(16 << 20, 17 << 20);
    }
    proxy.faults().refuse(true);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(4));
            proxy.faults().refuse(false);
        });
        part(20 << 20, 24 << 20);
    });
    println!("read after {:?}, 4 s of which nobody answered", start.elapsed());
    assert!(start.elapsed() > Duration::from_secs(3) && start.elapsed() < Duration::from_secs(15));
    if !full() {
        watch.end();
    }
}
