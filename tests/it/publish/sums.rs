//! The SHA-256 of whole images: in the signed head, and in the list that is handed on with images.

use std::fs;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::lab::{Lab, Random, make_ext4, make_tree, or_skip};
use crate::support::servers::program;

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn json(lab: &Lab, words: &[&str]) -> Value {
    serde_json::from_str(&lab.ok(&[words, &["--json"]].concat())).unwrap()
}

fn publish(lab: &Lab, words: &[&str]) -> Value {
    json(lab, &[&["publish", "--to", "mirrors.toml", "--whole-sha256"], words].concat())
}

/// Runs a program on the files of a directory of the lab.
fn runs(lab: &Lab, directory: &str, command: &[&str]) {
    let output = Command::new(command[0]).args(&command[1..]).current_dir(lab.path(directory)).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whatever is read out of its order, as zeros, or from a stream.
#[test]
fn it_is_the_digest_of_the_restored_image() {
    let lab = Lab::with_mirrors(&["a"]);
    let mut bytes = Random(1).bytes(9 << 20);
    bytes[2 << 20..4 << 20].fill(0);
    lab.write("plain.img", &bytes);
    let holes = fs::File::options().write(true).open(lab.path("plain.img")).unwrap();
    holes.set_len(20 << 20).unwrap();
    make_tree(&lab.path("tree"), 200, 2);
    make_ext4(&lab.path("tree"), &lab.path("disk.img"), "24M");
    let mut commands = vec![("plain.img", vec![]), ("disk.img", vec![]), ("disk.img", vec!["--zero-free"])];
    commands.push(("disk.img", vec!["--split", "bytes"]));
    if or_skip(program("mksquashfs").ok_or("no mksquashfs".into())).is_some() {
        runs(&lab, "", &["mksquashfs", "tree", "packed.img", "-quiet", "-no-progress"]);
        commands.push(("packed.img", vec![]));
    }
    for (image, options) in commands {
        let report = publish(&lab, &[&[image], &options[..]].concat());
        let name = report["image"].as_str().unwrap();
        let restored = json(&lab, &["restore", &format!("a/{name}"), "out", "--force"]);
        assert_eq!(report["image_sha256"], digest(&fs::read(lab.path("out")).unwrap()), "{image} {options:?}");
        assert_eq!(restored["image_sha256"], report["image_sha256"]);
    }
    let mut publish =
        lab.command(&["publish", "-", "--name", "stream", "--to", "mirrors.toml", "--whole-sha256", "--json"]);
    let output = publish.stdin(fs::File::open(lab.path("plain.img")).unwrap()).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["image_sha256"], digest(&fs::read(lab.path("plain.img")).unwrap()));
}

#[test]
fn the_list_has_what_the_head_has() {
    let lab = Lab::with_mirrors(&["a", "b"]);
    let image = |seed| lab.write("os.img", Random(seed).bytes(1 << 20));
    image(1);
    publish(&lab, &["os.img"]);
    image(2);
    publish(&lab, &["os.img"]);
    image(3);
    let third = lab.publish(&["os.img"]);
    assert_eq!(third["image_sha256"], Value::Null);
    fs::create_dir(lab.path("out")).unwrap();
    for version in [1, 2] {
        lab.ok(&["restore", &format!("a/os@{version}"), &format!("out/os_{version}.img")]);
    }
    let list = lab.path("b/sums/os/SHA256SUMS").display().to_string();
    runs(&lab, "out", &["sha256sum", "--check", "--strict", "--quiet", &list]);
    if or_skip(program("minisign").ok_or("no minisign".into())).is_some() {
        let key = lab.path("home/.config/hfl/keys/os.pub").display().to_string();
        runs(&lab, "out", &["minisign", "-Vqm", &list, "-p", &key]);
    }
    let lines = |mirror: &str| {
        let text = fs::read_to_string(lab.path(&format!("{mirror}/sums/os/SHA256SUMS"))).unwrap();
        text.lines().map(|line| line.split(" *").nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(lines("a"), ["os_2.img", "os_1.img"]);
    // What is already there gets its digest later, and a rollback takes it along.
    let again = publish(&lab, &["os.img"]);
    assert_eq!((&again["outcome"], &again["version"]), (&"no-change".into(), &3.into()));
    assert_eq!(again["image_sha256"], digest(&fs::read(lab.path("os.img")).unwrap()));
    let back = json(&lab, &["rollback", "os", "1", "--to", "mirrors.toml"]);
    assert_eq!(back["image_sha256"], digest(&fs::read(lab.path("out/os_1.img")).unwrap()));
    assert_eq!(lines("a"), ["os_4.img", "os_3.img", "os_2.img", "os_1.img"]);
    let log = json(&lab, &["log", "b/os"]);
    assert_eq!(log["versions"][0]["image_sha256"], log["versions"][3]["image_sha256"]);
    // A new mirror, where no secret key is.
    let tables = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    lab.write("mirrors.toml", tables + "[[mirror]]\nname = \"c\"\nwrite = \"./c\"\n");
    fs::rename(lab.path("home/.config/hfl/keys/os.key"), lab.path("os.key")).unwrap();
    lab.ok(&["sync", "--to", "mirrors.toml"]);
    assert_eq!(lines("c"), lines("a"));
    let signature = |mirror: &str| fs::read(lab.path(&format!("{mirror}/sums/os/SHA256SUMS.minisig"))).unwrap();
    assert_eq!(signature("c"), signature("a"));
    // What is gone is not listed, and at last nothing is.
    fs::rename(lab.path("os.key"), lab.path("home/.config/hfl/keys/os.key")).unwrap();
    lab.ok(&["gc", "--to", "mirrors.toml", "--keep", "2", "--more-than-half"]);
    assert_eq!(lines("a"), ["os_4.img", "os_3.img"]);
    image(5);
    lab.publish(&["os.img"]);
    lab.ok(&["gc", "--to", "mirrors.toml", "--keep", "1", "--more-than-half"]);
    assert_eq!(lines("c"), [""; 0]);
}
