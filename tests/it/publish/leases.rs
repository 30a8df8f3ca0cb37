//! Lock objects: a lock is certain for a limited time, and no holder blocks others forever.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hfl::format::head::Trust;
use hfl::format::layout::RepoPath;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

use crate::support::kinds::{Kind, blocks, check_store, use_kinds};
use crate::support::lab::{Lab, Random, code, skipped, stderr};
use crate::support::relay::Relay;
use crate::support::through::in_place_of;

const SPLIT: &str = "fixed:4K";

/// Two versions without common blocks, on a WebDAV server behind a relay.
struct Server {
    lab: Lab,
    runtime: Runtime,
    kinds: Vec<Kind>,
    relay: Relay,
    trust: Trust,
}

impl Server {
    fn start(others: impl FnOnce(&Lab) -> Vec<Kind>) -> Option<Self> {
        let Some(mut kind) = Kind::nginx() else {
            skipped("nginx with WebDAV is not installed");
            return None;
        };
        let mut relay = None;
        kind.behind(|server| relay.insert(Relay::start(server)).address());
        let (relay, mut lab) = (relay?, Lab::new());
        let mut kinds = vec![kind];
        kinds.extend(others(&lab));
        use_kinds(&mut lab, &kinds);
        for version in 1..=2 {
            lab.write("os.img", Random(version).bytes(400 << 12));
            lab.publish(&["os.img", "--split", SPLIT]);
        }
        let trust = lab.trust("os");
        Some(Self { lab, runtime: Runtime::new().unwrap(), kinds, relay, trust })
    }

    fn versions(&self, kind: usize) -> Vec<u32> {
        check_store(&self.runtime, &*self.kinds[kind].store, "os", &self.trust)
    }

    fn blocks(&self) -> usize {
        blocks(&self.runtime, &self.kinds[0].store).len()
    }

    /// Waits until fewer than `count` blocks are left.
    fn until_fewer_than(&self, count: usize) {
        let started = Instant::now();
        while self.blocks() >= count {
            assert!(started.elapsed() < Duration::from_secs(60), "nothing is removed");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn put_lock(&self, beat: u64) {
        let text = format!("HFL-LOCK 1\ntoken {:032x}\nprocess far away boot 7 1\nbeat {beat}\nstate held\n", 5);
        self.write_lock(text);
    }

    fn write_lock(&self, text: String) {
        let path = RepoPath::lock();
        self.runtime.block_on(self.kinds[0].store.put_replace(&path, Bytes::from(text))).unwrap();
    }

    fn read_lock(&self) -> Option<String> {
        let text = self.runtime.block_on(self.kinds[0].store.get(&RepoPath::lock(), 4096)).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }
}

/// A collector is stopped in the middle of its work, as when a machine is suspended. Its lock is taken over, and what
/// it was about to remove is published again. When it continues, it removes nothing more.
#[test]
fn a_collector_that_slept_removes_nothing_more() {
    let Some(server) = Server::start(|_| Vec::new()) else { return };
    let lab = &server.lab;
    let gc = ["gc", "--to", "mirrors.toml", "--keep", "1", "--grace-days", "0", "--more-than-half"];
    server.relay.delay_removals(400);
    let before = server.blocks();
    let child = lab.command(&gc).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    server.until_fewer_than(before - 30);
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let left = server.blocks();
    lab.write("os.img", Random(1).bytes(400 << 12));
    let publish = lab.run(&["publish", "os.img", "--to", "mirrors.toml", "--split", SPLIT]);
    assert_eq!(code(&publish), 0, "{}", stderr(&publish));
    assert_eq!(server.versions(0), [3, 2], "whole after {:.0?}", started.elapsed());
    kill_process(pid, Signal::CONT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
    assert_ne!(code(&output), 0, "{said}");
    assert!(said.contains("another publisher") || said.contains("not certain any more"), "{said}");
    assert_eq!(server.versions(0), [3, 2], "nothing that was published meanwhile is gone");
    println!("of {before} blocks {left} were left when it stopped; all of version 3 are there after it went on");
}

/// The lock on the first mirror is renewed forever. The second mirror still gets the version.
#[test]
fn a_mirror_that_never_gives_up_its_lock_is_left_behind() {
    let Some(server) = Server::start(|lab| vec![Kind::directory(lab, "honest")]) else { return };
    let (ended, mut beat) = (Arc::new(AtomicBool::new(false)), 0);
    server.lab.write("os.img", Random(3).bytes(400 << 12));
    server.put_lock(beat);
    let arguments = ["publish", "os.img", "--to", "mirrors.toml", "--split", SPLIT];
    let started = Instant::now();
    let output = std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let output = server.lab.run(&arguments);
            ended.store(true, Relaxed);
            output
        });
        while !ended.load(Relaxed) {
            beat += 1;
            server.put_lock(beat);
            std::thread::sleep(Duration::from_millis(500));
        }
        run.join().unwrap()
    });
    assert_eq!(code(&output), 6, "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("another publisher"), "{output:?}");
    assert_eq!(server.versions(1), [3, 2, 1]);
    assert_eq!(server.versions(0), [2, 1]);
    println!("left behind after {:.1?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

/// A publisher that waits for a lock can be interrupted. The mark of another publisher's unfinished work stays.
#[test]
fn waiting_for_a_lock_can_be_stopped() {
    let Some(server) = Server::start(|_| Vec::new()) else { return };
    server.put_lock(1);
    let arguments = ["publish", "os.img", "--to", "mirrors.toml", "--split", SPLIT];
    let child = server.lab.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let started = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 130, "{}", stderr(&output));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let undone = format!("HFL-LOCK 1\ntoken {:032x}\nprocess far away boot 7 1\nbeat 1\nstate unfinished\n", 5);
    server.write_lock(undone);
    server.lab.ok(&["verify", "--to", "mirrors.toml", "--repair"]);
    assert!(server.read_lock().is_some_and(|lock| lock.contains("state unfinished")), "{:?}", server.read_lock());
    server.lab.ok(&["publish", "os.img", "--to", "mirrors.toml", "--split", SPLIT, "--force"]);
    assert_eq!(server.read_lock(), None);
}

/// An interrupted collection ends soon, whatever it is doing.
#[test]
fn a_collection_can_be_stopped() {
    let Some(server) = Server::start(|_| Vec::new()) else { return };
    server.relay.delay_removals(1000);
    let gc = ["gc", "--to", "mirrors.toml", "--keep", "1", "--grace-days", "0", "--more-than-half"];
    let before = server.blocks();
    let child = server.lab.command(&gc).stderr(Stdio::piped()).spawn().unwrap();
    server.until_fewer_than(before);
    let started = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    println!("ended {:.1?} after SIGTERM", started.elapsed());
    assert_eq!(code(&output), 130, "{}", stderr(&output));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(server.versions(0), [2]);
}

/// Runs in its own process namespace. The first publisher belongs to another user, and the second one cannot see it in
/// /proc. The first one is stopped for longer than the lock of a dead local process is respected, and continues before
/// its lock expires.
const UNSEEN: &str = r#"
mount -t proc -o hidepid=2 proc /proc || exit 77
"$HFL" publish os.img --to mirrors.toml --split fixed:4K >first 2>&1 &
first=$!
read -r _
kill -STOP $first
cd "$OTHER"
export HOME="$OTHER/home" XDG_STATE_HOME="$OTHER/home/state"
setpriv --reuid 65534 --regid 65534 --clear-groups "$HFL" publish os.img --to mirrors.toml --split fixed:4K >second 2>&1 &
second=$!
sleep 14
kill -CONT $first
wait $first; echo "first $?"
wait $second; echo "second $?"
"#;

/// Another system user with the same mirrors and keys as `server`'s user, in a directory of its own.
fn another_user(server: &Server) -> Option<Lab> {
    let other = Lab::new();
    for file in ["mirrors.toml", "home/.config/hfl/keys/os.key", "home/.config/hfl/keys/os.pub"] {
        other.write(file, std::fs::read(server.lab.path(file)).unwrap());
    }
    other.write("os.img", Random(4).bytes(400 << 12));
    let owned = Command::new("chown").args(["-R", "65534:65534"]).arg(other.path(".")).status();
    let mut probe = Command::new("setpriv");
    probe.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", env!("CARGO_BIN_EXE_hfl"), "--version"]);
    let ran = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
    (owned.is_ok_and(|s| s.success()) && ran.is_ok_and(|s| s.success())).then_some(other)
}

/// As with the mount option hidepid on /proc: a process that cannot be seen may still be running.
#[test]
fn a_publisher_that_cannot_be_seen_keeps_its_lock() {
    let Some(server) = Server::start(|_| Vec::new()) else { return };
    let Some(other) = another_user(&server) else { return skipped("hfl cannot be run as another user here") };
    server.lab.write("os.img", Random(3).bytes(1600 << 12));
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", UNSEEN]);
    in_place_of(&mut shell, &server.lab.command(&[]));
    shell.env("HFL", env!("CARGO_BIN_EXE_hfl")).env("OTHER", other.path("."));
    shell.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    while server.read_lock().is_none() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    if [Some(1), Some(77)].contains(&output.status.code()) {
        return skipped("no namespaces of mounts and processes, or no /proc with hidepid, can be made here");
    }
    let said = |lab: &Lab, file: &str| std::fs::read_to_string(lab.path(file)).unwrap_or_default();
    let (first, second) = (said(&server.lab, "first"), said(&other, "second"));
    let ended = String::from_utf8_lossy(&output.stdout);
    assert!(ended.starts_with("first 0\n"), "{ended}{first}{second}");
    // The second publisher sees that the first one continues, or that it has ended.
    match ended.as_ref() {
        "first 0\nsecond 5\n" => assert!(second.contains("another publisher"), "{second}"),
        _ => assert_eq!(ended, "first 0\nsecond 0\n", "{first}{second}"),
    }
    let versions = server.versions(0);
    assert_eq!(versions, if ended.ends_with("second 5\n") { vec![3, 2, 1] } else { vec![4, 3, 2, 1] });
    let head = server.runtime.block_on(hfl::repo::head(&*server.kinds[0].store, &"os".parse().unwrap(), &server.trust));
    let head = head.unwrap().unwrap().head;
    let third = head.versions.iter().find(|row| row.version.number() == 3).unwrap();
    assert_eq!(third.size, 1600 << 12, "the first one's");
}

/// A mirror that delays its indexes is waited for only once if another mirror has them.
#[test]
fn who_keeps_others_waiting_is_asked_last() {
    let Some(server) = Server::start(|lab| vec![Kind::directory(lab, "good")]) else { return };
    let lab = &server.lab;
    server.relay.delay_indexes(40_000);
    let started = Instant::now();
    lab.write("os.img", Random(3).bytes(400 << 12));
    lab.publish(&["os.img", "--split", SPLIT]);
    let published = started.elapsed();
    lab.ok(&["gc", "--to", "mirrors.toml", "--keep", "1", "--more-than-half"]);
    println!("published in {published:.1?}, collected in {:.1?}", started.elapsed() - published);
    assert!(published < Duration::from_secs(20), "{published:?}");
    assert!(started.elapsed() - published < Duration::from_secs(20), "{:?}", started.elapsed() - published);
    server.relay.delay_indexes(0);
    assert_eq!([server.versions(0), server.versions(1)], [vec![3], vec![3]]);
}
