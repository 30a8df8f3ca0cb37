//! How a mount ends: in every case with exit code 0 and nothing left mounted.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::fixture::{Publish, image};
use crate::support::mounting::{Mounted, cannot_mount, client, is_mounted};

fn mounted() -> (TempDir, Mounted) {
    let home = tempfile::tempdir().unwrap();
    let base = home.path().join("a");
    Publish::default().write(&base, &image(3 << 20));
    let mounted = Mounted::new(home.path(), &["--unsigned"], &[base.to_str().unwrap()], "test");
    (home, mounted)
}

fn ends(mut mounted: Mounted) {
    let status = mounted.status();
    assert!(status.success(), "{status}");
    assert!(!mounted.is_mounted());
}

#[test]
fn signals_and_unmounting_end_it() {
    if cannot_mount() {
        return;
    }
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let (_home, mounted) = mounted();
        std::fs::read(mounted.file()).unwrap();
        mounted.signal(signal);
        ends(mounted);
    }
    for program in [["umount", "--"], ["fusermount3", "-u"]] {
        let (_home, mounted) = mounted();
        let status = Command::new(program[0]).arg(program[1]).arg(mounted.point()).status();
        match status {
            Ok(status) => assert!(status.success(), "{program:?}"),
            Err(e) => {
                println!("skipped: {}: {e}", program[0]);
                continue;
            }
        }
        ends(mounted);
    }
}

#[test]
fn a_busy_mount_leaves_the_tree_and_the_process_ends() {
    if cannot_mount() {
        return;
    }
    let (_home, mounted) = mounted();
    let open = std::fs::File::open(mounted.file()).unwrap();
    mounted.signal(Signal::TERM);
    let start = Instant::now();
    ends(mounted);
    println!("ended after {:?}", start.elapsed());
    drop(open);
}

#[test]
fn in_the_background_it_returns_when_the_mount_works() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (base, point) = (home.path().join("a"), home.path().join("point"));
    let bytes = image(3 << 20);
    Publish::default().write(&base, &bytes);
    std::fs::create_dir(&point).unwrap();
    let mut command = client(home.path());
    command.args(["--unsigned", "a/test", "point"]).current_dir(home.path());
    // This returns only if the daemon has closed these pipes.
    let output = command.stdin(Stdio::null()).output().unwrap();
    let read = std::fs::read(point.join("test"));
    let unmounted = Command::new("umount").arg(&point).status().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(read.unwrap() == bytes && unmounted.success());
    assert!(said.contains("version 1, 3145728 bytes"), "{said}");
    let start = Instant::now();
    while is_mounted(&point) {
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
