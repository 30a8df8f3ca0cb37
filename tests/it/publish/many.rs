//! Several images in one run, and mirrors that are named on the command line.

use std::fs;

use serde_json::Value;

use crate::support::lab::{Lab, Random, code, stderr};

const SPLIT: &str = "fixed:4096";

/// Runs a publish with `--json`; returns its exit code and report.
fn publish(lab: &Lab, arguments: &[&str]) -> (i32, Value) {
    let all = [&["publish", "--json", "--split", SPLIT], arguments].concat();
    let output = lab.run(&all);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{all:?}: {}", stderr(&output)));
    (code(&output), report)
}

#[test]
fn a_bad_image_does_not_stop_the_others() {
    let lab = Lab::with_mirrors(&["public", "second"]);
    let contents = Random(1).bytes(200_000);
    lab.write("out/one.img", &contents);
    lab.write("out/two.img", [&contents[..], &Random(2).bytes(40_960)].concat());
    lab.write("out/bad.img", b"PK\x03\x04 and so on");
    let images = ["out/one.img", "out/bad.img", "out/two.img"];
    let (code, report) = publish(&lab, &[&images[..], &["--to", "mirrors.toml", "--name", "board-{stem}"]].concat());
    assert_eq!(code, 6, "{report}");
    let named: Vec<&Value> = report["images"].as_array().unwrap().iter().map(|image| &image["image"]).collect();
    assert_eq!(named, ["board-one", "board-two"]);
    assert!(report["skipped"]["board-bad"].as_str().unwrap().contains("a zip archive"), "{report}");
    let new = |i: usize| report["images"][i]["new"]["blocks"].as_u64();
    assert_eq!((new(0), new(1)), (Some(49), Some(11)), "what the first image had is not sent again");
    for (image, file) in [("board-one", "out/one.img"), ("board-two", "out/two.img")] {
        for mirror in ["public", "second"] {
            lab.ok(&["restore", &format!("{mirror}/{image}"), "back.img", "--force", "-q"]);
            assert!(fs::read(lab.path("back.img")).unwrap() == fs::read(lab.path(file)).unwrap(), "{mirror} {image}");
        }
    }
    let again = lab.run(&[&["publish"], &images[..], &["--to", "mirrors.toml", "--name", "board-{stem}"]].concat());
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(text.contains("board-one: no change") && text.contains("board-two: no change"), "{text}");
    assert!(stderr(&again).contains("board-bad is skipped"), "{}", stderr(&again));
}

#[test]
fn calls_with_several_images_are_checked_first() {
    let lab = Lab::with_mirrors(&["public"]);
    lab.write("a/os.img", b"a");
    lab.write("b/os.img", b"b");
    lab.write("c.img", b"c");
    let refused = |expected: i32, arguments: &[&str], words: &str| {
        let all = [&["publish", "--to", "mirrors.toml"], arguments].concat();
        let text = lab.fails(expected, &all);
        assert!(text.contains(words), "{arguments:?}: {text}");
        assert!(!lab.path("public").exists());
    };
    refused(2, &["a/os.img", "b/os.img"], "a/os.img and b/os.img would both be published as os");
    refused(2, &["a/os.img", "c.img", "--name", "same"], "would both be published as same");
    refused(2, &["a/os.img", "c.img", "--name", "no/{stem}"], "is not allowed in a name");
    refused(2, &["a/os.img", "c.img", "--profile", "p"], "--profile FILE is for one image, and 2 are given");
    refused(2, &["a/os.img", "c.img", "--boot=here"], "--boot=DIRECTORY is for one image, and 2 are given");
    refused(2, &["--name", "x"], "IMAGE");
    lab.write("d.img", b"");
    lab.write("e.img", b"");
    let text = lab.fails(1, &["publish", "d.img", "e.img", "--to", "mirrors.toml"]);
    assert!(text.contains("d.img: empty") && text.contains("e is skipped: e.img: empty"), "{text}");
}

#[test]
fn a_directory_or_a_url_is_the_only_mirror() {
    let lab = Lab::new();
    lab.write("os.img", Random(4).bytes(50_000));
    assert_eq!(publish(&lab, &["os.img", "--to", "made/here/"]).0, 0);
    assert!(lab.path("made/here/os.head").exists());
    let (code, report) = publish(&lab, &["os.img", "--to", "made/here"]);
    assert_eq!((code, &report["outcome"]), (0, &"no-change".into()), "a directory that exists needs no slash");
    lab.ok(&["verify", "--to", "made/here"]);
    lab.ok(&["restore", "made/here/os", "back.img", "-q"]);
    let missing = lab.fails(1, &["publish", "os.img", "--to", "nowhere"]);
    assert!(missing.contains("--to public/"), "{missing}");
    let unknown = lab.fails(2, &["publish", "os.img", "--to", "gopher://host/x"]);
    assert!(unknown.contains("unknown protocol `gopher`"), "{unknown}");
}
