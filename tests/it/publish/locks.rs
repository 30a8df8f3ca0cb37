//! Two publishers on one mirror, for each kind of mirror without a native lock.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Child, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use bytes::Bytes;
use hfl::format::head::Trust;
use hfl::format::layout::RepoPath;
use hfl::store::StoreErrorKind;
use hfl::system::host::{Host, ThisHost};
use tokio::runtime::Runtime;

use crate::support::kinds::{Kind, blocks, check_store, use_kinds};
use crate::support::lab::{Lab, Mounted, Random, check_mirror, code, full, skipped, stderr, two_images};

const SPLIT: &str = "fixed:32K";

/// Version 1 on a single mirror.
struct Alone {
    lab: Lab,
    runtime: Runtime,
    kind: Kind,
    trust: Trust,
}

impl Alone {
    fn start(kind: Option<Kind>) -> Option<Self> {
        Self::with_files(kind, 60)
    }

    fn with_files(kind: Option<Kind>, files: usize) -> Option<Self> {
        let Some(kind) = kind else {
            skipped("a server is not installed");
            return None;
        };
        let mut lab = Lab::new();
        let kinds = [kind];
        use_kinds(&mut lab, &kinds);
        two_images(&lab, files);
        lab.publish(&["one.img", "--name", "os", "--split", SPLIT]);
        let (trust, [kind]) = (lab.trust("os"), kinds);
        let alone = Self { lab, runtime: Runtime::new().unwrap(), kind, trust };
        assert_eq!(alone.lock(), None, "no lock stays after success");
        Some(alone)
    }

    fn spawn(&self, image: &str) -> Child {
        let arguments = ["publish", image, "--name", "os", "--to", "mirrors.toml", "-q", "--force", "--split", SPLIT];
        self.lab.command(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn publish(&self, image: &str) -> (Output, Duration) {
        let started = Instant::now();
        (self.spawn(image).wait_with_output().unwrap(), started.elapsed())
    }

    fn versions(&self) -> Vec<u32> {
        check_store(&self.runtime, &*self.kind.store, "os", &self.trust)
    }

    /// The contents of the lock object, if it exists.
    fn lock(&self) -> Option<String> {
        let text = self.runtime.block_on(self.kind.store.get(&lock_path(), 4096)).ok()?;
        Some(String::from_utf8(text.to_vec()).unwrap())
    }

    fn set_lock(&self, text: &str) {
        let text = Bytes::from(text.to_owned());
        self.runtime.block_on(self.kind.store.put_replace(&lock_path(), text)).unwrap();
    }

    /// Waits until a publisher has sent a block that is not in `before`.
    fn until_sending(&self, before: &BTreeSet<RepoPath>) {
        let started = Instant::now();
        while blocks(&self.runtime, &self.kind.store) == *before {
            assert!(started.elapsed() < Duration::from_secs(30), "nothing is sent");
        }
    }
}

fn lock_path() -> RepoPath {
    "publish.lock".parse().unwrap()
}

/// The contents of a lock object written by a process on another machine.
fn elsewhere(beat: u64, state: &str) -> String {
    format!("HFL-LOCK 1\ntoken {:032x}\nprocess far-away boot pid:[1] 7 1\nbeat {beat}\nstate {state}\n", 99)
}

/// Starts two publishers at the same moment, in several rounds. Neither loses a version.
fn two_at_once(kind: Option<Kind>) {
    let Some(alone) = Alone::start(kind) else { return };
    let (mut published, mut refused, mut rounds) = (1, 0, 0);
    let started = Instant::now();
    for round in 0..if full() { 20 } else { 2 } {
        let both = [alone.spawn("one.img"), alone.spawn("two.img")];
        let outputs = both.map(|child| child.wait_with_output().unwrap());
        let mut lost = Vec::new();
        for (output, image) in outputs.iter().zip(["one.img", "two.img"]) {
            match code(output) {
                0 => published += 1,
                5 => lost.push((image, stderr(output))),
                other => panic!("{} round {round}: exit {other}: {}", alone.kind.name, stderr(output)),
            }
        }
        assert!(lost.len() < 2, "{}: one of the two goes through: {lost:?}", alone.kind.name);
        for (image, said) in lost {
            assert!(said.contains("another publisher"), "{said}");
            let (again, _) = alone.publish(image);
            assert_eq!(code(&again), 0, "the loser runs again: {}", stderr(&again));
            (published, refused) = (published + 1, refused + 1);
        }
        assert_eq!(alone.versions(), (1..=published).rev().collect::<Vec<u32>>(), "{}", alone.kind.name);
        assert_eq!(alone.lock(), None);
        rounds += 1;
    }
    let took = started.elapsed() / rounds;
    println!(
        "{}: {rounds} rounds of {took:.1?}, {published} versions, {refused} times one was refused",
        alone.kind.name
    );
}

#[test]
fn two_publishers_at_webdav() {
    two_at_once(Kind::nginx());
}

#[test]
fn two_publishers_at_a_strict_s3_store() {
    two_at_once(Kind::seaweed(&Runtime::new().unwrap()));
}

#[test]
fn two_publishers_at_a_lax_s3_store() {
    two_at_once(Kind::rclone(&Runtime::new().unwrap()));
}

#[test]
fn two_publishers_at_sftp() {
    two_at_once(Kind::sftp());
}

#[test]
fn two_publishers_at_ftp() {
    two_at_once(Kind::ftps());
}

#[test]
fn the_dead_of_this_machine_are_succeeded_at_once() {
    for kind in [Kind::nginx(), Kind::seaweed(&Runtime::new().unwrap()), Kind::sftp()] {
        let Some(alone) = Alone::start(kind) else { continue };
        let (_, usual) = alone.publish("one.img");
        let mut child = alone.spawn("two.img");
        let started = Instant::now();
        while alone.lock().is_none() && started.elapsed() < Duration::from_secs(30) {}
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(alone.lock().is_some_and(|lock| lock.contains("state held")), "the dead still holds it");
        let (output, took) = alone.publish("two.img");
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        println!("{}: after a kill {took:.1?}, usually {usual:.1?}", alone.kind.name);
        assert!(took < usual + Duration::from_secs(15), "not after the lease");
        assert_eq!((alone.versions(), alone.lock()), (vec![3, 2, 1], None));
    }
}

#[test]
fn a_publisher_that_is_stopped_leaves_word() {
    for kind in [Kind::nginx(), Kind::seaweed(&Runtime::new().unwrap())] {
        // Slow enough that the publisher is still sending when the signal arrives.
        let Some(mut kind) = kind else { continue };
        kind.table.push_str("rate = 500000\n");
        let Some(alone) = Alone::with_files(Some(kind), 400) else { continue };
        let child = alone.spawn("two.img");
        alone.until_sending(&blocks(&alone.runtime, &alone.kind.store));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), 130, "{}", stderr(&output));
        assert!(alone.lock().is_some_and(|lock| lock.contains("state unfinished")), "{:?}", alone.lock());
        let (output, took) = alone.publish("two.img");
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        println!("{}: after an interrupt {took:.1?}", alone.kind.name);
        assert_eq!((alone.versions(), alone.lock()), (vec![2, 1], None));
    }
}

#[test]
fn a_lock_of_another_machine() {
    for kind in [Kind::nginx(), Kind::seaweed(&Runtime::new().unwrap())] {
        let Some(alone) = Alone::start(kind) else { continue };
        alone.set_lock(&elsewhere(0, "unfinished"));
        let (output, took) = alone.publish("two.img");
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        println!("{}: work left undone elsewhere is taken over in {took:.1?}", alone.kind.name);
        assert!(took < Duration::from_secs(25));
        assert_eq!((alone.versions(), alone.lock()), (vec![2, 1], None));

        alone.set_lock(&elsewhere(1, "held"));
        let (output, took) = beside_a_living_one(&alone);
        let said = stderr(&output);
        println!("{}: refused after {took:.1?}: {}", alone.kind.name, said.trim());
        assert_eq!(code(&output), 5, "{said}");
        assert!(said.contains("another publisher on far-away (process 7) is at work here"), "{said}");
        assert!(took < Duration::from_secs(20));
        assert!(alone.lock().is_some_and(|lock| lock.contains("far-away")), "it is left alone");
        assert_eq!(alone.versions(), [2, 1]);
        if full() {
            let (output, took) = alone.publish("one.img");
            assert_eq!(code(&output), 0, "{}", stderr(&output));
            println!("{}: the dead of another machine are succeeded after {took:.1?}", alone.kind.name);
            assert!(took > Duration::from_secs(35) && took < Duration::from_secs(60));
            assert_eq!((alone.versions(), alone.lock()), (vec![3, 2, 1], None));
        }
    }
}

/// Publishes while the holder of the lock renews it every 5 s.
fn beside_a_living_one(alone: &Alone) -> (Output, Duration) {
    let (started, mut child) = (Instant::now(), alone.spawn("one.img"));
    let mut beat = 1;
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(5 * beat) {
            beat += 1;
            alone.set_lock(&elsewhere(beat, "held"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    (child.wait_with_output().unwrap(), started.elapsed())
}

/// A directory that an SFTP server also serves: publishers through the server and on its machine exclude each other.
#[test]
fn a_directory_and_its_server_show_one_lock() {
    let Some(alone) = Alone::start(Kind::sftp()) else { return };
    let host: Arc<dyn Host> = Arc::new(ThisHost);
    let lock = || alone.runtime.block_on(hfl::store::lock::lock(&alone.kind.store, &host));
    let held = lock().unwrap();
    assert!(alone.lock().is_some_and(|lock| lock.contains("state owned")), "{:?}", alone.lock());
    let (output, took) = alone.publish("two.img");
    let said = stderr(&output);
    assert_eq!(code(&output), 5, "{said}");
    assert!(said.contains("another publisher on ") && took < Duration::from_secs(20), "after {took:.1?}: {said}");

    // This simulates a killed holder. The task that renews the lock ends a moment later.
    drop(held);
    thread::sleep(Duration::from_millis(300));
    let started = Instant::now();
    let held = lock().expect("the lock of the directory tells that its holder is gone");
    assert!(held.unfinished() && started.elapsed() < Duration::from_secs(2), "after {:.1?}", started.elapsed());
    alone.runtime.block_on(held.release(true));
    assert_eq!(alone.lock(), None);

    alone.set_lock(&elsewhere(1, "held"));
    let beating = thread::spawn({
        let (store, runtime) = (Arc::clone(&alone.kind.store), Runtime::new().unwrap());
        move || {
            for beat in 2..8 {
                thread::sleep(Duration::from_secs(1));
                runtime.block_on(store.put_replace(&lock_path(), elsewhere(beat, "held").into())).unwrap();
            }
        }
    });
    let error = lock().unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Locked, "{error}");
    assert!(error.to_string().contains("another publisher on far-away"), "{error}");
    beating.join().unwrap();
    alone.set_lock(&elsewhere(9, "unfinished"));
    let held = lock().expect("neither is held any more");
    alone.runtime.block_on(held.release(true));
    assert_eq!(alone.versions(), [1]);
}

/// A full disk needs removals, so their lock must not need space. The same holds for a run that writes nothing.
#[test]
fn a_full_directory_can_be_emptied() {
    let lab = Lab::with_mirrors(&["full"]);
    let base = lab.path("full");
    let Some(_tmpfs) = Mounted::tmpfs(&base, "4M") else { return };
    for seed in 1..=2 {
        lab.write("os.img", Random(seed).bytes(1 << 20));
        lab.publish(&["os.img"]);
    }
    lab.ok(&["gc", "--to", "mirrors.toml", "--keep", "1", "--more-than-half"]);
    let filled = fs::write(lab.path("full/other"), vec![1; 8 << 20]).unwrap_err();
    assert_eq!(filled.kind(), std::io::ErrorKind::StorageFull, "{filled}");
    lab.ok(&["sync", "--to", "mirrors.toml"]);
    let before = lab.files("full/blocks").len();
    lab.ok(&["gc", "--to", "mirrors.toml", "--keep", "1", "--grace-days", "0"]);
    assert!(lab.files("full/blocks").len() < before);
    assert!(!lab.path("full/publish.lock").exists());
}

/// Mirrors that accept connections but never respond are listed before a good one. They are waited for concurrently.
#[test]
fn mirrors_that_never_answer_are_waited_for_side_by_side() {
    if !full() {
        return skipped("waits for two minutes; --full");
    }
    let dead: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let table = |(i, dead): (usize, &TcpListener)| {
        format!("[[mirror]]\nname = \"dead{i}\"\nwrite = \"webdav+http://{}/\"\n", dead.local_addr().unwrap())
    };
    let lab = Lab::new();
    let tables: String = dead.iter().enumerate().map(table).collect();
    lab.write("mirrors.toml", tables + "[[mirror]]\nname = \"good\"\nwrite = \"./good\"\n");
    lab.write("os.img", Random(1).bytes(1 << 20));
    let started = Instant::now();
    let output = lab.run(&["publish", "os.img", "--to", "mirrors.toml"]);
    println!("published in {:.0?}", started.elapsed());
    assert_eq!(code(&output), 6, "{}", stderr(&output));
    assert!(started.elapsed() < Duration::from_secs(150), "{:?}", started.elapsed());
    assert_eq!(check_mirror(&lab.path("good"), "os", &lab.trust("os")), [1]);
}
