//! The outputs of `hfl restore` and similar commands: they overwrite nothing of the user's and leave nothing behind.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hfl::system::atomic_file;

use crate::support::fixture::{Publish, image};
use crate::support::lab::{Lab, code, skipped, stderr};
use crate::support::loop_device::LoopDevice;
use crate::support::mounting::{WebServer, run};

const IMAGE_BYTES: usize = 8 << 20;

fn lab() -> (Lab, Vec<u8>) {
    let (lab, bytes) = (Lab::new(), image(IMAGE_BYTES));
    Publish::default().write(&lab.path("a"), &bytes);
    (lab, bytes)
}

/// A mount point, unmounted on drop.
struct MountedAt<'a>(&'a Path);

impl Drop for MountedAt<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_device_is_taken_where_it_is_blank_or_by_force_and_never_in_use() {
    let (lab, bytes) = lab();
    let Some(device) = LoopDevice::new(&lab.path("disk"), 64 << 20) else { return };
    let words = ["restore", "a/test", &device.0, "--unsigned"];
    lab.ok(&words);
    assert!(fs::read(&device.0).unwrap()[..IMAGE_BYTES] == bytes, "a blank one needs no force");
    assert!(lab.fails(1, &words).contains("there is something on this device"));
    lab.ok(&[&words[..], &["--force"]].concat());

    // Data only at the end of the device, as with a RAID: more than the first MiB is blank.
    let zeros = vec![0; 32 << 20];
    fs::write(&device.0, [&zeros[..], &zeros[..(32 << 20) - 4096], &[1; 4096]].concat()).unwrap();
    let said = lab.fails(1, &words);
    assert!(said.contains("there is something on this device") && said.contains("--force"), "{said}");

    let (made, point) = (Command::new("mke2fs").args(["-q", "-F", &device.0]).status(), lab.path("point"));
    if !made.is_ok_and(|made| made.success()) {
        return skipped("no mke2fs");
    }
    fs::create_dir(&point).unwrap();
    if !Command::new("mount").arg(&device.0).arg(&point).status().unwrap().success() {
        return skipped("ext2 cannot be mounted here");
    }
    let mounted = MountedAt(&point);
    fs::write(point.join("mine"), "mine").unwrap();
    for words in [&words[..], &[&words[..], &["--force"]].concat()] {
        let said = lab.fails(1, words);
        assert!(said.contains("the device is in use") && said.contains("unmount"), "{said}");
    }
    assert_eq!(fs::read_to_string(point.join("mine")).unwrap(), "mine");
    drop(mounted);
    let checked = Command::new("e2fsck").args(["-f", "-n", &device.0]).output().unwrap();
    assert!(checked.status.success(), "{}", stderr(&checked));
}

#[test]
fn no_file_is_made_where_a_device_is_missing() {
    let (lab, _) = lab();
    let missing = format!("/dev/hfl-no-such-disk-{}", std::process::id());
    let said = lab.fails(1, &["restore", "a/test", &missing, "--unsigned"]);
    assert!(said.contains("no such device") && !Path::new(&missing).exists(), "{said}");
    let said = lab.fails(1, &["boot", "try", "a/test", "--unsigned", "--record", &missing]);
    assert!(said.contains("no such device") && !Path::new(&missing).exists(), "{said}");
    let source = lab.path("a/test").display().to_string();
    let socket = lab.path("socket").display().to_string();
    let recorded = run(
        &lab.path("home"),
        &["nbd", "--unsigned", "--no-cache", "--record", &missing, "--socket", &socket, &source],
    );
    assert!(code(&recorded) == 1 && stderr(&recorded).contains("no such device"), "{}", stderr(&recorded));
    assert!(!Path::new(&missing).exists());
    // A device is not replaced by a file either.
    let recorded = run(
        &lab.path("home"),
        &["nbd", "--unsigned", "--no-cache", "--record", "/dev/null", "--socket", &socket, &source],
    );
    assert_eq!(code(&recorded), 1, "{}", stderr(&recorded));
    assert!(fs::symlink_metadata("/dev/null").unwrap().file_type().is_char_device());
}

#[test]
fn files_that_lie_beside_the_output_are_left_alone() {
    let (lab, bytes) = lab();
    lab.write("victim", "mine");
    symlink(lab.path("victim"), lab.path("out.img.partial")).unwrap();
    lab.write("other.img.partial", "mine too");
    for out in ["out.img", "other.img"] {
        lab.ok(&["restore", "a/test", out, "--unsigned"]);
        assert!(fs::symlink_metadata(lab.path(out)).unwrap().is_file() && fs::read(lab.path(out)).unwrap() == bytes);
        assert!(lab.fails(1, &["restore", "a/test", out, "--unsigned"]).contains("exists already"));
    }
    assert_eq!(fs::read_to_string(lab.path("victim")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(lab.path("other.img.partial")).unwrap(), "mine too");
    assert!(fs::symlink_metadata(lab.path("out.img.partial")).unwrap().is_symlink());
}

/// The files of the lab that were not there before.
fn left(lab: &Lab) -> Vec<String> {
    let known = |file: &String| file.starts_with("a/") || file.starts_with("home/");
    lab.files(".").into_iter().filter(|file| !known(file)).collect()
}

#[test]
fn a_partial_file_is_left_of_what_fails_or_is_stopped_and_says_how_to_continue() {
    let (lab, bytes) = lab();
    let wait = |path: &str| if path.starts_with("/blocks/") { Duration::from_secs(60) } else { Duration::ZERO };
    let slow = WebServer::delayed(&lab.path("a"), wait);
    let source = format!("{}/test", slow.url());
    let words = ["restore", &source, "out.img", "--unsigned"];
    let child = lab.command(&words).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while left(&lab).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(20), "nothing is begun");
        std::thread::sleep(Duration::from_millis(20));
    }
    let said = lab.fails(5, &words);
    assert!(said.contains("another restore writes to it"), "{said}");
    let stopped = Instant::now();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    println!("ended {:.2?} after Ctrl-C", stopped.elapsed());
    assert!(code(&output) == 130 && stopped.elapsed() < Duration::from_millis(1500), "{output:?}");
    assert_eq!(left(&lab), [""; 0], "a partial file in which there is nothing is removed");

    // All blocks but one arrive.
    let blocks = lab.path("a/blocks");
    let block = walkdir::WalkDir::new(blocks).into_iter().flatten().find(|entry| entry.file_type().is_file());
    let (block, good) = block.map(|block| (block.path().to_owned(), fs::read(block.path()).unwrap())).unwrap();
    fs::write(&block, "damaged").unwrap();
    let said = lab.fails(3, &["restore", "a/test", "out.img", "--unsigned", "--timeout", "1"]);
    assert!(said.contains("out.img.hfl-partial") && said.contains("run the command again"), "{said}");
    assert_eq!(left(&lab), ["out.img.hfl-partial"]);
    fs::write(&block, good).unwrap();
    let report = lab.ok(&["restore", "a/test", "out.img", "--unsigned", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["fetched_blocks"], 1, "{report}");
    assert_eq!(left(&lab), ["out.img"]);
    assert!(fs::read(lab.path("out.img")).unwrap() == bytes);
}

#[test]
fn what_others_have_put_in_the_place_of_a_partial_file_is_not_written() {
    let (lab, bytes) = lab();
    let partial = lab.path("out.img.hfl-partial");
    let words = ["restore", "a/test", "out.img", "--unsigned"];
    lab.write("victim", "mine");
    symlink(lab.path("victim"), &partial).unwrap();
    assert!(lab.fails(1, &words).contains("a symbolic link lies where the partial file"));
    fs::remove_file(&partial).unwrap();
    fs::hard_link(lab.path("victim"), &partial).unwrap();
    assert!(lab.fails(1, &words).contains("a file that has other names too"));
    fs::remove_file(&partial).unwrap();
    if rustix::process::geteuid().is_root() {
        fs::write(&partial, "theirs").unwrap();
        std::os::unix::fs::chown(&partial, Some(1234), None).unwrap();
        assert!(lab.fails(1, &words).contains("a file of another user"));
        fs::remove_file(&partial).unwrap();
    }
    assert_eq!(fs::read_to_string(lab.path("victim")).unwrap(), "mine");
    // Contents alone are not believed.
    fs::write(&partial, vec![b'x'; IMAGE_BYTES + 4096]).unwrap();
    lab.ok(&words);
    assert!(fs::read(lab.path("out.img")).unwrap() == bytes && !partial.exists());
}

#[test]
fn a_file_is_replaced_whole_and_a_link_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("victim"), "mine").unwrap();
    symlink(at("victim"), at("profile")).unwrap();
    atomic_file::replace(&at("profile"), b"new").unwrap();
    assert!(fs::symlink_metadata(at("profile")).unwrap().is_file());
    assert_eq!((fs::read(at("profile")).unwrap(), fs::read(at("victim")).unwrap()), (b"new".into(), b"mine".into()));
    fs::create_dir_all(at("directory/full")).unwrap();
    atomic_file::replace(&at("directory"), b"new").unwrap_err();
    atomic_file::replace(&at(&"x".repeat(240)), b"a long name").unwrap();
    let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.count(), 4, "nothing is left beside them");
}
