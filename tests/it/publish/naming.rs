//! One way to name an image, for all commands: `NAME[@VERSION]` with `--to`, or with its place.

use std::fs;

use crate::support::lab::{Lab, Random};

/// Two versions on a directory mirror.
fn published() -> Lab {
    let lab = Lab::with_mirrors(&["a"]);
    for version in 1..=2 {
        lab.write("os.img", Random(version).bytes(1 << 20));
        lab.ok(&["publish", "os.img", "--to", "mirrors.toml", "-q"]);
        fs::copy(lab.path("os.img"), lab.path(&format!("{version}.img"))).unwrap();
    }
    lab
}

#[test]
fn every_command_names_an_image_in_the_same_way() {
    let lab = published();
    let names = [["os", "--to", "mirrors.toml"].as_slice(), &["os", "--to", "a/"], &["a/os"], &["./a/os.head"]];
    for name in names {
        assert!(lab.ok(&[&["log"], name].concat()).lines().count() >= 3, "{name:?}");
        let versioned: Vec<String> = name
            .iter()
            .enumerate()
            .map(|(i, word)| {
                let word = word.strip_suffix(".head").unwrap_or(word);
                if i == 0 { format!("{word}@1") } else { word.to_owned() }
            })
            .collect();
        let versioned: Vec<&str> = versioned.iter().map(String::as_str).collect();
        let log = lab.ok(&[&["log"], &*versioned].concat());
        assert!(log.contains("\n      1 ") && !log.contains("\n      2 "), "{log}");
        for (words, expected) in [(versioned, "1.img"), (name.to_vec(), "2.img")] {
            let _ = fs::remove_file(lab.path("out"));
            let (first, rest) = words.split_first().unwrap();
            lab.ok(&[&["restore", first, "out"], rest].concat());
            assert!(fs::read(lab.path("out")).unwrap() == fs::read(lab.path(expected)).unwrap(), "{words:?}");
        }
    }
    let difference = lab.ok(&["diff", "os@1", "os@2", "--to", "mirrors.toml", "--json"]);
    for words in [["a/os@1", "a/os@2"].as_slice(), &["a/os@1", "a/os"], &["os@1", "os", "--to", "a/"]] {
        assert_eq!(lab.ok(&[&["diff", "--json"], words].concat()), difference, "{words:?}");
    }
}

/// What was typed before goes on to work.
#[test]
fn older_spellings_work() {
    let lab = published();
    lab.ok(&["restore", "a/os", "out", "--version", "1", "--timeout", "60"]);
    assert!(fs::read(lab.path("out")).unwrap() == fs::read(lab.path("1.img")).unwrap());
    lab.ok(&["rollback", "os", "1", "--to", "mirrors.toml"]);
    lab.ok(&["rollback", "os@2", "--to", "mirrors.toml"]);
    lab.ok(&["gc", "--to", "mirrors.toml", "--keep-days", "3", "--grace-days", "2"]);
    lab.ok(&["gc", "--to", "mirrors.toml", "--keep-for", "3d", "--grace", "2w"]);
    lab.ok(&["gc", "--to", "mirrors.toml"]);
    lab.ok(&["publish", "os.img", "--to", "mirrors.toml", "--expires", "90", "--patience", "90"]);
    lab.ok(&["publish", "os.img", "--to", "mirrors.toml", "--expires", "13w", "--patience", "2m"]);
}

#[test]
fn what_names_nothing_is_told() {
    let lab = published();
    for (words, expected) in [
        (["log", "a"].as_slice(), "a is a repository: which image?\nhint: it lists os: name a/os"),
        (&["log", "a/"], "which image?"),
        (&["log", "os"], "no mirror given for os\nhint: add --to"),
        (&["log", "a/os", "--to", "mirrors.toml"], "a/os says where it is, and --to as well"),
        (&["log", "os@x", "--to", "mirrors.toml"], "a version is a number"),
        (&["log", "Os", "--to", "mirrors.toml"], "is not allowed in a name"),
        (&["restore", "a/os@1", "new", "--version", "2"], "--version names another one"),
        (&["rollback", "os", "--to", "mirrors.toml"], "os@VERSION"),
        (&["rollback", "os@1", "2", "--to", "mirrors.toml"], "one version is published again"),
        (&["gc", "--to", "mirrors.toml", "--grace", "36h"], "whole days"),
    ] {
        let said = lab.fails(2, words);
        assert!(said.contains(expected), "{words:?}: {said}");
    }
    assert!(lab.fails(1, &["log", "a/os@9"]).contains("has no version 9"));
    // Images are not indexes: that is said before they are read.
    let said = lab.fails(3, &["diff", "1.img", "2.img"]);
    assert!(said.contains("not an index") && said.contains("NAME@VERSION with --to"), "{said}");
    fs::write(lab.path("mirrors.toml"), "[[mirror]]\nname = \"a\"\nwrite = \"sftp://u@127.0.0.1:9/x\"\n").unwrap();
    assert!(lab.fails(2, &["restore", "os", "new", "--to", "mirrors.toml"]).contains("no mirror has a public URL"));
}
