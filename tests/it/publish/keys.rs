//! The stored key of an image: it is written completely or not at all, and a broken key is reported as such.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::lab::{Lab, Random, or_skip};

fn lab() -> Lab {
    let lab = Lab::with_mirrors(&["public"]);
    lab.write("os.img", Random(1).bytes(10_240));
    lab
}

const KEYS: &str = "home/.config/hfl/keys";
const PUBLISH: [&str; 4] = ["publish", "os.img", "--to", "mirrors.toml"];

#[test]
fn a_full_disk_leaves_no_half_key() {
    let lab = lab();
    let keys = lab.path(KEYS);
    fs::create_dir_all(&keys).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4k,mode=0700", "tmpfs"]).arg(&keys).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return or_skip::<()>(Err("cannot mount a tmpfs".into())).unwrap_or_default();
    }
    fs::write(keys.join("other"), [1; 4096]).unwrap();
    let said = lab.run(&PUBLISH);
    let left = lab.files(KEYS);
    fs::remove_file(keys.join("other")).unwrap();
    let then = lab.run(&PUBLISH);
    let kept = lab.files(KEYS);
    assert!(Command::new("umount").arg(&keys).status().unwrap().success());
    assert_eq!(said.status.code(), Some(1));
    assert!(
        crate::support::lab::stderr(&said).contains("os.key: no space left"),
        "{}",
        crate::support::lab::stderr(&said)
    );
    assert_eq!(left, ["other"], "nothing of a key");
    // The disk's single page holds the secret key but not the public key as well. The next publish writes the public
    // key, see below.
    assert!(kept.contains(&"os.key".to_owned()), "{kept:?}: {}", crate::support::lab::stderr(&then));
}

#[test]
fn a_broken_key_is_told_as_such() {
    let lab = lab();
    lab.publish(&["os.img"]);
    let key = lab.path(&format!("{KEYS}/os.key"));
    let good = fs::read_to_string(&key).unwrap();
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    for (text, words) in [
        ("", "os.key: empty, there is no key in it"),
        ("\n", "os.key: empty, there is no key in it"),
        ("untrusted comment: x\n", "os.key: not a minisign secret key"),
        (&good[..good.len() / 2], "os.key: not a minisign secret key"),
        ("hello", "os.key: not a minisign secret key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE\n", "hint: this is a key for ssh or TLS"),
    ] {
        fs::write(&key, text).unwrap();
        let said = lab.fails(1, &[&PUBLISH[..], &["--force"]].concat());
        assert!(said.contains(words) && !said.contains("encrypted"), "{text:?}: {said}");
        assert!(!said.contains(good.lines().nth(1).unwrap()), "a key is never shown");
    }
    fs::remove_file(&key).unwrap();
    std::os::unix::fs::symlink("nowhere", &key).unwrap();
    assert!(lab.fails(1, &PUBLISH).contains("os.key: no such file"), "no new key through a link");
}

#[test]
fn a_missing_public_key_is_written_again() {
    let lab = lab();
    lab.publish(&["os.img"]);
    let public = lab.path(&format!("{KEYS}/os.pub"));
    let good = fs::read_to_string(&public).unwrap();
    for broken in [None, Some(""), Some("untrusted comment: x\nRWQ\n")] {
        match broken {
            None => fs::remove_file(&public).unwrap(),
            Some(text) => fs::write(&public, text).unwrap(),
        }
        lab.publish(&["os.img"]);
        assert_eq!(fs::read_to_string(&public).unwrap(), good);
        assert_eq!(fs::metadata(&public).unwrap().permissions().mode() & 0o777, 0o644);
    }
    assert_eq!(lab.files(KEYS), ["os.key", "os.pub"], "nothing half-written is left");
}

#[test]
fn an_empty_variable_is_no_new_key() {
    for (name, value, words) in [
        ("HFL_KEY", "", "HFL_KEY: empty, there is no key in it"),
        ("HFL_KEY", " \n", "is the secret defined for this job?"),
        ("HFL_KEY", "hello", "HFL_KEY: not a minisign secret key"),
        ("HFL_KEY", "mirrors.toml", "hint: this is a path: --key takes files"),
    ] {
        let mut lab = lab();
        lab.set(name, value);
        let said = lab.fails(1, &PUBLISH);
        assert!(said.contains(words), "{name}={value:?}: {said}");
        assert!(!lab.path(KEYS).exists() && !lab.path("public/os.head").exists());
    }
}
