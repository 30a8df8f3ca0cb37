//! Error messages of the client when it cannot mount, and exit codes.

use std::fs;
use std::path::Path;

use hfl::format::signing::SecretKey;
use tempfile::TempDir;

use crate::support::fixture::{Publish, image};
use crate::support::mounting::{Mounted, cannot_mount, nobody, run};

/// A signed repository in `home/a`, its key in `home/key.pub`, and an empty directory `home/point`.
fn signed() -> (TempDir, SecretKey) {
    let home = tempfile::tempdir().unwrap();
    let (key, _) = SecretKey::generate().unwrap();
    fs::write(home.path().join("key.pub"), key.public_file()).unwrap();
    fs::create_dir(home.path().join("point")).unwrap();
    Publish { key: Some(&key), ..Publish::default() }.write(&home.path().join("a"), &image(1 << 20));
    (home, key)
}

/// Runs the client and expects failure. Returns the exit code and the message.
fn fails(home: &Path, arguments: &[&str]) -> (i32, String) {
    let inside: Vec<String> = arguments.iter().map(|a| a.replace("HOME", home.to_str().unwrap())).collect();
    let inside: Vec<&str> = inside.iter().map(String::as_str).collect();
    let output = run(home, &inside);
    let said = String::from_utf8(output.stderr).unwrap();
    println!("{said}");
    assert!(said.starts_with("hfl-mount: ") || said.starts_with('{'), "{said}");
    (output.status.code().unwrap(), said)
}

fn expect(home: &Path, arguments: &[&str], code: i32, words: &[&str]) {
    let (found, said) = fails(home, arguments);
    assert_eq!(found, code, "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` in: {said}");
    }
}

#[test]
fn mount_points_that_are_none() {
    let (home, _) = signed();
    let home = home.path();
    fs::create_dir(home.join("full")).unwrap();
    fs::write(home.join("full/file"), "").unwrap();
    let mount = |point: &'static str| ["--key", "HOME/key.pub", "HOME/a/test", point];
    expect(home, &mount("HOME/none"), 1, &["no such directory", "hint: mkdir"]);
    expect(home, &mount("http://host/test"), 1, &["no such directory", "hint: the image comes first"]);
    expect(home, &["--memory", "1", "--unsigned", "HOME/a/test", "HOME/full"], 2, &["at least 1M"]);
    expect(home, &mount("HOME/full"), 1, &["not empty", "hint:"]);
    expect(home, &mount("HOME/full/file"), 1, &["not a directory", "hint:"]);
    if cannot_mount() {
        return;
    }
    let base = home.join("a");
    let mounted =
        Mounted::new(home, &["--key", home.join("key.pub").to_str().unwrap()], &[base.to_str().unwrap()], "test");
    let again = mounted.point().to_str().unwrap().to_owned();
    expect(home, &["--key", "HOME/key.pub", "HOME/a/test", &again], 1, &["already", "hint: umount"]);
}

#[test]
fn keys_decide() {
    let (home, _) = signed();
    let home = home.path();
    let (other, _) = SecretKey::generate().unwrap();
    let other = other.public().to_string();
    expect(home, &["--key", &other, "HOME/a/test", "HOME/point"], 3, &["test.head", "another key"]);
    expect(home, &["--key", "RWnonsense", "HOME/a/test", "HOME/point"], 2, &["not a minisign public key"]);
    expect(home, &["HOME/a/test", "HOME/point"], 2, &["--key"]);
    Publish { image: "plain", ..Publish::default() }.write(&home.join("a"), &image(1 << 20));
    expect(home, &["--key", &other, "HOME/a/plain", "HOME/point"], 3, &["not signed"]);
}

#[test]
fn sources_that_give_nothing() {
    let (home, _) = signed();
    let home = home.path();
    let nobody = format!("{}/test", nobody());
    let soon = ["--key", "HOME/key.pub", "--timeout", "1", &nobody, "HOME/point"];
    expect(home, &soon, 4, &["connection refused; trying again", "connection refused\nhint:"]);
    expect(home, &["--key", "HOME/key.pub", "HOME/a/none", "HOME/point"], 1, &["no image none"]);
    expect(home, &["--key", "HOME/key.pub", "--version", "7", "HOME/a/test", "HOME/point"], 1, &["no version 7"]);
    expect(home, &["--unsigned", "HOME/a/test", "HOME/b/other", "HOME/point"], 2, &["different images"]);
    expect(home, &["--unsigned", "gopher://x/test", "HOME/point"], 2, &["gopher"]);
    expect(home, &[&["--json"], &soon[..]].concat(), 4, &["\"exit\":4"]);
}

#[test]
fn what_was_seen_before_is_remembered() {
    if cannot_mount() {
        return;
    }
    let (home, key) = signed();
    let (home, base) = (home.path(), home.path().join("a"));
    let first = fs::read(base.join("test.head")).unwrap();
    let publish = Publish { key: Some(&key), version: 2, expires: Some(1_000), ..Publish::default() };
    publish.write(&base, &image(2 << 20));
    let signed = ["--key", "HOME/key.pub", "HOME/a/test", "HOME/point"];
    expect(home, &signed, 3, &["expired at 1970-01-01T00:16:40Z"]);
    Publish { expires: None, ..publish }.write(&base.with_file_name("b"), &image(2 << 20));
    let key_file = home.join("key.pub");
    let mount = |from: &str| {
        let base = home.join(from);
        Mounted::new(home, &["--key", key_file.to_str().unwrap()], &[base.to_str().unwrap()], "test")
    };
    mount("b").end();
    assert!(mount("a").end().contains("warning: test: the head expired"), "used before");
    fs::write(base.join("test.head"), first).unwrap();
    expect(home, &signed, 3, &["rollback", "version 2 was seen"]);
    expect(home, &["--unsigned", "HOME/a/test", "HOME/point"], 3, &["pinned key"]);
    Publish { key: Some(&key), version: 2, ..Publish::default() }.write(&base, &image(1 << 20));
    expect(home, &signed, 3, &["equivocation"]);
}
