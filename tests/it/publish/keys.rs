//! The stored key of an image: it is written completely or not at all, and a broken key is reported as such.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::lab::{Lab, Random, or_skip, stderr, tool};

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
    assert!(stderr(&said).contains("os.key: no space left"), "{}", stderr(&said));
    assert_eq!(left, ["other"], "nothing of a key");
    // The disk's single page holds the secret key but not the public key as well. The next publish writes the public
    // key, see below.
    assert!(kept.contains(&"os.key".to_owned()), "{kept:?}: {}", stderr(&then));
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
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE\n", "os.key: a key for ssh or TLS"),
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

#[test]
fn keys_of_minisign_are_taken() {
    let lab = lab();
    let make = |name: &str, more: &[&str], input: &str| {
        let (public, secret) = (format!("{name}.pub"), format!("{name}.key"));
        tool(&lab, "minisign", &[&["-G", "-p", &public, "-s", &secret], more].concat(), input)?;
        Some(fs::read_to_string(lab.path(&secret)).unwrap())
    };
    let Some(plain) = make("plain", &["-W"], "") else { return };
    let Some(locked) = make("locked", &[], "a password\na password\n") else { return };
    let public =
        |name: &str| fs::read_to_string(lab.path(&format!("{name}.pub"))).unwrap().lines().nth(1).unwrap().to_owned();
    let check = |key: &str, password: &str| {
        let output =
            lab.command(&["key", "check"]).env("HFL_KEY", key).env("HFL_KEY_PASSWORD", password).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output))
    };
    assert!(check(&plain, "").contains(&public("plain")));
    assert!(check(plain.lines().nth(1).unwrap(), "").contains(&public("plain")), "its line alone");
    assert!(check(&locked, "a password").contains(&public("locked")));
    // A key of py-minisign 0.21, made for this test.
    let other = "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAhCZeTOX1Q4nDktj/V82W7fTsBcOl5xAXre1QygWbbWBMjH\
        RUQiay4pwYA3DUjYcsmrripfaSjQDA9lhY9uvpjAI8vhIwwh4NXLjtzAR0aqvYZzOmLRB+OBDupSwin7gWc3zvD8pp1LQ=";
    assert!(check(other, "").contains("a secret key that signs"));
    let damaged = format!("{}A{}", &other[..100], &other[101..]);
    for (key, words) in [
        (locked.as_str(), "the key is encrypted and no password was given"),
        (&damaged, "a damaged minisign secret key"),
        (&public("plain"), "a public key, which cannot sign"),
        (&STANDARD.encode(&plain), "encoded in base64 once more"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6 me", "a key for ssh or TLS"),
        ("abc", "not a minisign secret key"),
        ("plain.key", "this is a path"),
        ("", "empty, there is no key in it"),
    ] {
        let said = check(key, "");
        assert!(said.contains(words), "{words}: {said}");
        assert!(key.len() < 100 || !said.contains(&key[..50]), "a key is never shown");
    }
    assert!(check(&locked, "wrong").contains("the password does not open the key"));
    // A damaged half of a key without a checksum.
    let line = plain.lines().nth(1).unwrap();
    let damaged = format!("{}{}{}", &line[..90], if &line[90..91] == "A" { "B" } else { "A" }, &line[91..]);
    assert!(check(&damaged, "").contains("a damaged minisign secret key"), "{}", check(&damaged, ""));
}

#[test]
fn a_key_is_made_shown_exported_and_used() {
    let lab = lab();
    let made: serde_json::Value = serde_json::from_str(&lab.ok(&["key", "new", "os", "--json"])).unwrap();
    let public = made["public_key"].as_str().unwrap();
    assert!(lab.fails(1, &["key", "new", "os"]).contains("os.key: "), "an existing key stays");
    assert!(lab.ok(&["key", "show"]).contains(public) && lab.ok(&["key", "show", "os"]).contains(public));
    assert!(lab.fails(2, &["key", "show", "web"]).contains("no key of web is saved here"));
    assert!(lab.ok(&["key", "check", "os"]).contains(public));
    assert!(lab.fails(2, &["key", "check"]).contains("HFL_KEY is not set"));
    let report = lab.publish(&["os.img"]);
    assert_eq!(report["public_key"], public);
    // As in a job elsewhere.
    let secret = lab.ok(&["key", "export", "os"]);
    fs::remove_dir_all(lab.path(KEYS)).unwrap();
    let output = lab.command(&[&PUBLISH[..], &["--force"]].concat()).env("HFL_KEY", &secret).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains(secret.lines().nth(1).unwrap()));
    for arguments in
        [&["log", "public/os"][..], &["restore", "public/os", "back.img"], &["sync", "--to", "mirrors.toml"]]
    {
        let output = lab.command(arguments).env("HFL_KEY", &secret).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    }
    assert!(lab.fails(2, &["log", "public/os"]).contains("no key is known for os"));
    lab.ok(&["key", "new", "--out", "ci.key"]);
    assert!(lab.ok(&["key", "check", "--key", "ci.key"]).contains("signs"));
    assert_eq!(fs::metadata(lab.path("ci.key")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_job_without_its_key_makes_none() {
    let mut lab = lab();
    lab.set("CI", "true");
    let said = lab.fails(2, &PUBLISH);
    assert!(said.contains("no secret key of os is here") && said.contains("--new-key"), "{said}");
    assert!(!lab.path(KEYS).exists() && !lab.path("public/os.head").exists());
    lab.ok(&[&PUBLISH[..], &["--new-key"]].concat());
    lab.ok(&PUBLISH);
}

/// Images of one repository have one key, unless they have keys of their own already.
#[test]
fn the_second_image_signs_with_the_key_of_the_first() {
    let lab = Lab::with_mirrors(&["public"]);
    for name in ["os", "kiosk", "third", "fourth"] {
        lab.write(&format!("{name}.img"), Random(name.len() as u64).bytes(20_000));
    }
    let publish = |name: &str, to: &str| {
        let report = lab.ok(&["publish", &format!("{name}.img"), "--to", to, "--json"]);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        (report["public_key"].as_str().unwrap().to_owned(), report["new_key_file"].is_null())
    };
    let (first, _) = publish("os", "mirrors.toml");
    assert_eq!(publish("kiosk", "mirrors.toml"), (first.clone(), true));
    assert!(!lab.path(&format!("{KEYS}/kiosk.key")).exists(), "there is one secret key");
    assert_eq!(lab.ok(&["key", "export", "kiosk"]), lab.ok(&["key", "export", "os"]));
    lab.ok(&["log", "public/kiosk", "--key", &first]);
    lab.ok(&["verify", "--to", "mirrors.toml", "--deep"]);
    // It is known by its public key from now on, also where nothing else is remembered.
    fs::remove_dir_all(lab.path("home/state")).unwrap();
    lab.write("kiosk.img", Random(9).bytes(20_000));
    assert_eq!(publish("kiosk", "mirrors.toml"), (first.clone(), true));
    lab.ok(&["gc", "--to", "mirrors.toml", "--keep", "1"]);
    // Another repository has another key, and one with two keys gets a third one.
    let (other, is_old) = publish("third", "elsewhere/");
    assert!(other != first && !is_old);
    publish("third", "public/");
    let (new, is_old) = publish("fourth", "public/");
    assert!(![&first, &other].contains(&&new) && !is_old);
}

/// Until a version is out that only this key can follow.
#[test]
fn the_advice_to_keep_a_copy_is_said_again() {
    let lab = lab();
    lab.ok(&["key", "new", "os"]);
    let advice = format!("{KEYS}/os.key (keep a copy: ");
    assert!(lab.ok(&PUBLISH).contains(&advice));
    lab.write("os.img", Random(5).bytes(20_000));
    assert!(!lab.ok(&PUBLISH).contains(&advice));
}

#[test]
fn images_of_one_run_share_a_new_key() {
    let lab = Lab::with_mirrors(&["public"]);
    lab.write("a.img", Random(1).bytes(20_000));
    lab.write("b.img", Random(2).bytes(20_000));
    lab.ok(&["publish", "a.img", "b.img", "--to", "mirrors.toml"]);
    let public = |name: &str| fs::read_to_string(lab.path(&format!("{KEYS}/{name}.pub"))).unwrap();
    assert_eq!(public("a"), public("b"));
    // Each has it whole: either may be the one that was published.
    let secret = |name: &str| fs::read_to_string(lab.path(&format!("{KEYS}/{name}.key"))).unwrap();
    assert_eq!(secret("a"), secret("b"));
    lab.ok(&["verify", "--to", "mirrors.toml"]);
}
