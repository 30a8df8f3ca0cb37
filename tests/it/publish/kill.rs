//! Killed publishers and concurrent publishers: every mirror stays consistent at every moment.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::lab::{Lab, Random, check_mirror, code, full, make_ext4, make_tree, stderr};

fn images() -> Lab {
    let lab = Lab::with_mirrors(&["a", "b"]);
    make_tree(&lab.path("tree"), 500, 5);
    make_ext4(&lab.path("tree"), &lab.path("one.img"), "48M");
    for i in 0..150 {
        lab.write(&format!("tree/usr/lib/part{:02}/file{i:04}", i % 17), Random(i).bytes(20_000));
    }
    make_ext4(&lab.path("tree"), &lab.path("two.img"), "48M");
    lab
}

#[test]
fn a_publisher_killed_at_any_moment_leaves_every_mirror_whole() {
    let lab = images();
    lab.publish(&["one.img", "--name", "os"]);
    for mirror in ["a", "b"] {
        copy(&lab, mirror, &format!("{mirror}-one"));
    }
    let arguments = ["publish", "two.img", "--name", "os", "--to", "mirrors.toml", "-q"];
    let started = Instant::now();
    lab.ok(&arguments);
    let whole = started.elapsed();
    let (finished_a, finished_b) = (names(&lab, "a"), names(&lab, "b"));
    let trust = lab.trust("os");
    let kills = if full() { 50 } else { 12 };
    let mut random = Random(42);
    let (mut before, mut after) = (0, 0);
    for kill in 0..kills {
        for mirror in ["a", "b"] {
            copy(&lab, &format!("{mirror}-one"), mirror);
        }
        lab.forget();
        let mut child = lab.command(&arguments).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole.mul_f64(random.below(1000) as f64 / 900.0));
        child.kill().unwrap();
        child.wait().unwrap();
        for mirror in ["a", "b"] {
            match &check_mirror(&lab.path(mirror), "os", &trust)[..] {
                [1] => before += 1,
                [2, 1] => after += 1,
                other => panic!("kill {kill}: mirror {mirror} has versions {other:?}"),
            }
        }
        lab.ok(&arguments);
        let both = ["a", "b"].map(|mirror| check_mirror(&lab.path(mirror), "os", &trust));
        // A version number that may have been used is not used again.
        assert!(both[0] == both[1] && (both[0] == [2, 1] || both[0] == [3, 1]), "after kill {kill}: {both:?}");
        assert_eq!((names(&lab, "a"), names(&lab, "b")), (finished_a.clone(), finished_b.clone()), "the same state");
    }
    println!("{kills} kills in {whole:.2?}: mirrors at version 1 {before} times, at version 2 {after} times");
    assert!(before > 0, "some kill came before the switch");
}

/// The files of a mirror, without the parts of an index's name that depend on the time: number and digest. A publisher
/// killed before its head is switched leaves an index, and the next one, some seconds later, writes another.
fn names(lab: &Lab, mirror: &str) -> BTreeSet<String> {
    let is_new = |f: &str| f.starts_with("index/os/2-") || f.starts_with("index/os/3-");
    let plain = |f: String| if is_new(&f) { f[..9].to_owned() + &f[23..] } else { f };
    lab.files(mirror).into_iter().map(plain).collect()
}

fn copy(lab: &Lab, from: &str, to: &str) {
    let _ = fs::remove_dir_all(lab.path(to));
    let copied = std::process::Command::new("cp").arg("-a").arg(lab.path(from)).arg(lab.path(to)).status().unwrap();
    assert!(copied.success());
}

#[test]
fn two_publishers_at_once() {
    let lab = images();
    lab.publish(&["one.img", "--name", "os"]);
    let spawn = |image: &str| {
        let arguments = ["publish", image, "--name", "os", "--to", "mirrors.toml", "-q", "--force"];
        lab.command(&arguments).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut published = 1;
    for round in 0..if full() { 10 } else { 4 } {
        let both = [spawn("one.img"), spawn("two.img")];
        let outputs = both.map(|child| child.wait_with_output().unwrap());
        for output in &outputs {
            match code(output) {
                0 => published += 1,
                5 => assert!(stderr(output).contains("another publisher"), "{}", stderr(output)),
                other => panic!("round {round}: exit {other}: {}", stderr(output)),
            }
        }
        assert!(outputs.iter().any(|o| code(o) == 0), "one of the two goes through");
        let expected: Vec<u32> = (1..=published).rev().collect();
        for mirror in ["a", "b"] {
            assert_eq!(check_mirror(&lab.path(mirror), "os", &lab.trust("os")), expected, "mirror {mirror}");
        }
    }
    lab.ok(&["publish", "two.img", "--name", "os", "--to", "mirrors.toml", "-q"]);
    println!("{published} versions published, none lost");
}

#[test]
fn who_comes_second_keeps_out_of_the_way_of_who_came_first() {
    let lab = Lab::with_mirrors(&["a", "b"]);
    lab.write("one.img", Random(1).bytes(100_000));
    fs::create_dir_all(lab.path("a")).unwrap();
    let first = fs::File::open(lab.path("a")).unwrap();
    rustix::fs::flock(&first, rustix::fs::FlockOperation::LockExclusive).unwrap();
    fs::create_dir_all(lab.path("b")).unwrap();
    let second = fs::File::open(lab.path("b")).unwrap();
    rustix::fs::flock(&second, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let said = lab.fails(5, &["publish", "one.img", "--name", "os", "--to", "mirrors.toml", "-q"]);
    assert!(said.contains("another publisher"), "{said}");
    assert_eq!(lab.files("b"), Vec::<String>::new());
    // A mirror whose lock is never released does not hold up the others.
    drop(second);
    let output = lab.run(&["publish", "one.img", "--name", "os", "--to", "mirrors.toml"]);
    assert_eq!(code(&output), 6, "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("another publisher is at work"), "{output:?}");
    assert_eq!(check_mirror(&lab.path("b"), "os", &lab.trust("os")), [1]);
    drop(first);
    lab.publish(&["one.img", "--name", "os"]);
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [1]);
}

#[test]
fn an_interrupted_publisher_cleans_up() {
    let lab = images();
    let arguments = ["publish", "one.img", "--name", "os", "--to", "mirrors.toml", "--level", "12"];
    let mut child = lab.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_secs(10), "it does not stop");
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 130, "{}", stderr(&output));
    assert!(stderr(&output).contains("interrupted"), "{}", stderr(&output));
    assert!(!lab.path("a/os.head").exists() && !lab.path("a/.hfl-tmp").exists());
}
