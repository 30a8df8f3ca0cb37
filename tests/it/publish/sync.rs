//! `hfl sync` and `hfl rollback`: mirrors that are new or behind, and old versions published again.

use std::fs;
use std::process::Command;

use crate::support::lab::{Lab, check_mirror, code, stderr, two_images};

/// Two versions of `os` and one of `other`, on mirrors a and b.
fn repository() -> Lab {
    let lab = Lab::with_mirrors(&["a", "b"]);
    lab.ok(&["key", "new", "other"]);
    two_images(&lab, 300);
    lab.publish(&["one.img", "--name", "os"]);
    lab.publish(&["two.img", "--name", "os"]);
    lab.publish(&["one.img", "--name", "other"]);
    lab
}

fn add_mirror(lab: &Lab, name: &str, more: &str) {
    let text = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    lab.write("mirrors.toml", format!("{text}\n[[mirror]]\nname = \"{name}\"\nwrite = \"./{name}\"\n{more}"));
}

#[test]
fn a_new_mirror_is_one_table_and_one_sync() {
    let lab = repository();
    add_mirror(&lab, "c", "");
    let plan: serde_json::Value =
        serde_json::from_str(&lab.ok(&["sync", "--to", "mirrors.toml", "--json", "--dry-run"])).unwrap();
    assert!(!lab.path("c").exists(), "a dry run writes nothing");
    let done: serde_json::Value = serde_json::from_str(&lab.ok(&["sync", "--to", "mirrors.toml", "--json"])).unwrap();
    let images = |report: &serde_json::Value| report["images"].as_array().unwrap().clone();
    for (plan, done) in images(&plan).iter().zip(images(&done)) {
        let new = &done["mirrors"][2];
        assert_eq!(plan["mirrors"][2]["objects"], new["objects"], "{}", done["image"]);
        assert_eq!(plan["mirrors"][2]["files"], new["files"], "{}", done["image"]);
        assert_eq!(done["mirrors"][0]["objects"], 0);
    }
    assert_eq!(done["images"][1]["mirrors"][2]["objects"], 0, "the other image shares its blocks with the first");
    assert_eq!(lab.files("c"), lab.files("a"));
    for image in ["os", "other"] {
        assert_eq!(
            check_mirror(&lab.path("c"), image, &lab.trust(image)),
            check_mirror(&lab.path("a"), image, &lab.trust(image))
        );
    }
    let again: serde_json::Value = serde_json::from_str(&lab.ok(&["sync", "--to", "mirrors.toml", "--json"])).unwrap();
    for report in images(&again) {
        assert!(report["mirrors"].as_array().unwrap().iter().all(|m| m["objects"] == 0 && m["files"] == 0), "{report}");
    }
}

#[test]
fn without_the_secret_key_heads_are_copied_as_they_are() {
    let lab = repository();
    add_mirror(&lab, "c", "read = \"http://127.0.0.1:9/\"\nread-back = false\n");
    let keys = lab.path("home/.config/hfl/keys");
    let os_key = fs::read_to_string(keys.join("os.pub")).unwrap().lines().nth(1).unwrap().to_owned();
    fs::rename(keys.join("os.key"), lab.path("os.key")).unwrap();
    lab.ok(&["sync", "--to", "mirrors.toml", "--image", "os", "--key", &os_key]);
    assert_eq!(fs::read(lab.path("c/os.head")).unwrap(), fs::read(lab.path("a/os.head")).unwrap());
    assert!(!fs::read_to_string(lab.path("a/os.head")).unwrap().contains("127.0.0.1:9"));
    fs::rename(lab.path("os.key"), keys.join("os.key")).unwrap();
    lab.ok(&["sync", "--to", "mirrors.toml", "--image", "os"]);
    for mirror in ["a", "b", "c"] {
        let head = fs::read_to_string(lab.path(&format!("{mirror}/os.head"))).unwrap();
        assert!(head.contains("mirror http://127.0.0.1:9/"), "with the key, the head names the new mirror");
        assert_eq!(check_mirror(&lab.path(mirror), "os", &lab.trust("os")), [2, 1]);
    }
}

#[test]
fn a_mirror_that_was_away_is_caught_up() {
    let lab = repository();
    fs::rename(lab.path("b"), lab.path("b-old")).unwrap();
    lab.write("b", "a file where a directory should be");
    let output = lab.run(&["publish", "one.img", "--name", "os", "--to", "mirrors.toml", "--label", "third"]);
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    fs::remove_file(lab.path("b")).unwrap();
    fs::rename(lab.path("b-old"), lab.path("b")).unwrap();
    assert_eq!(check_mirror(&lab.path("b"), "os", &lab.trust("os")), [2, 1]);
    lab.ok(&["sync", "--to", "mirrors.toml"]);
    assert_eq!(check_mirror(&lab.path("b"), "os", &lab.trust("os")), [3, 2, 1]);
    assert_eq!(lab.files("a"), lab.files("b"));
}

#[test]
fn what_a_mirror_lost_is_sent_again_when_its_listing_says_so() {
    let lab = repository();
    let blocks: Vec<String> = lab.files("b").into_iter().filter(|f| f.starts_with("blocks/")).collect();
    for block in blocks.iter().step_by(7) {
        fs::remove_file(lab.path(&format!("b/{block}"))).unwrap();
    }
    fs::write(lab.path(&format!("b/{}", blocks[1])), b"").unwrap();
    lab.ok(&["sync", "--to", "mirrors.toml", "--check", "list", "--image", "os"]);
    assert_eq!(check_mirror(&lab.path("b"), "os", &lab.trust("os")), [2, 1]);
}

#[test]
fn what_every_mirror_lost_is_made_again_from_the_image() {
    let lab = Lab::with_mirrors(&["alone"]);
    two_images(&lab, 40);
    lab.publish(&["one.img", "--name", "os"]);
    let blocks: Vec<String> = lab.files("alone").into_iter().filter(|f| f.starts_with("blocks/")).collect();
    let lost: Vec<&String> = blocks.iter().step_by(7).collect();
    let lose = || lost.iter().for_each(|block| fs::remove_file(lab.path(&format!("alone/{block}"))).unwrap());
    lose();
    let expected = lab.publish(&["one.img", "--name", "os", "--check", "list", "--dry-run"]);
    let report = lab.publish(&["one.img", "--name", "os", "--check", "list"]);
    assert_eq!((&report["outcome"], &report["new"]["blocks"]), (&"no-change".into(), &0.into()), "{report}");
    assert_eq!(report["mirrors"][0]["objects"], lost.len(), "{report}");
    assert_eq!(expected["mirrors"][0]["objects"], lost.len(), "{expected}");
    assert_eq!(check_mirror(&lab.path("alone"), "os", &lab.trust("os")), [1]);
    lose();
    // Lost blocks that the new image does not contain cannot be made again from it. They can from the old image.
    let two = ["publish", "two.img", "--name", "os", "--check", "list", "--to", "mirrors.toml"];
    let said = lab.fails(3, &two);
    assert!(said.contains("no mirror holds block") && said.contains("--repair --seed"), "{said}");
    lab.ok(&["verify", "--to", "mirrors.toml", "--repair", "--seed", "one.img"]);
    lab.ok(&two);
    assert_eq!(check_mirror(&lab.path("alone"), "os", &lab.trust("os")), [2, 1]);
    println!("{} of {} blocks lost, twice", lost.len(), blocks.len());
}

#[test]
fn an_old_version_comes_back_with_an_index_and_a_head() {
    let lab = repository();
    let before = lab.files("a");
    let report = lab.ok(&["rollback", "os", "1", "--to", "mirrors.toml", "--json", "--label", "back to one"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["version"], &report["outcome"]), (&3.into(), &"published".into()));
    let mirrors = report["mirrors"].as_array().unwrap();
    assert!(mirrors.iter().all(|m| m["objects"] == 0), "no block is sent: {report}");
    assert!(mirrors.iter().all(|m| m["files"] == 7), "index, signature, head, two pages and two feeds: {report}");
    let new: Vec<String> = lab.files("a").into_iter().filter(|f| !before.contains(f)).collect();
    assert_eq!(new.len(), 2, "{new:?}");
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [3, 2, 1]);
    lab.ok(&["restore", "a/os", "back.img"]);
    assert!(fs::read(lab.path("back.img")).unwrap() == fs::read(lab.path("one.img")).unwrap());
    assert!(lab.ok(&["log", "a/os"]).contains("back to one"));
    assert!(lab.ok(&["rollback", "os", "1", "--to", "mirrors.toml"]).contains("no change"));
}

#[test]
fn a_rollback_that_makes_no_sense() {
    let lab = repository();
    let said = lab.fails(1, &["rollback", "os", "9", "--to", "mirrors.toml"]);
    assert!(said.contains("os has no version 9; held: 2, 1"), "{said}");
    let said = lab.fails(2, &["rollback", "nix", "1", "--to", "mirrors.toml"]);
    assert!(said.contains("no secret key of nix is here") && said.contains("--key FILE or HFL_KEY"), "{said}");
    assert!(!lab.path("home/.config/hfl/keys/nix.key").exists(), "no key is made for it");
}

/// A mirror operator who has seen a version is protected against rollback: sync and verify refuse older versions.
#[test]
fn who_copies_and_checks_keeps_the_rules_of_readers() {
    let lab = Lab::with_mirrors(&["a"]);
    two_images(&lab, 60);
    lab.publish(&["one.img", "--name", "os"]);
    copy_tree(&lab, "a", "old");
    lab.publish(&["two.img", "--name", "os"]);
    let public = fs::read_to_string(lab.path("home/.config/hfl/keys/os.pub")).unwrap();
    let key = public.lines().nth(1).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = lab.command(arguments);
        command.args(["--to", "mirrors.toml", "--key", key]).env("HOME", lab.path("operator"));
        let output = command.env("XDG_STATE_HOME", lab.path("operator")).output().unwrap();
        (code(&output), format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output)))
    };
    let (done, said) = run(&["sync"]);
    assert_eq!(done, 0, "{said}");
    fs::remove_dir_all(lab.path("a")).unwrap();
    copy_tree(&lab, "old", "a");
    add_mirror(&lab, "b", "");

    for arguments in [&["sync", "--dry-run"][..], &["sync"]] {
        let (done, said) = run(arguments);
        assert_eq!(done, 3, "{said}");
        assert!(
            said.contains("rollback: the newest version offered is 1") && said.contains("--allow-rollback"),
            "{said}"
        );
    }
    assert!(!lab.path("b/os.head").exists());
    let (done, said) = run(&["verify", "--mirror", "a"]);
    assert_eq!(done, 3, "{said}");
    assert!(said.contains("refused") && said.contains("version 2 was seen before"), "{said}");

    let (done, said) = run(&["sync", "--allow-rollback"]);
    assert_eq!(done, 0, "{said}");
    assert_eq!(check_mirror(&lab.path("b"), "os", &lab.trust("os")), [1]);
    let (done, said) = run(&["verify"]);
    assert_eq!(done, 0, "{said}");
}

/// Two machines that could not reach each other's mirrors published two versions with one number. The holder of the key
/// resolves this, although it has seen one of the two.
#[test]
fn who_has_the_key_ends_a_split_that_it_has_seen() {
    let lab = Lab::with_mirrors(&["a", "b"]);
    two_images(&lab, 60);
    lab.publish(&["one.img", "--name", "os"]);
    copy_tree(&lab, "a", "before");
    lab.publish(&["two.img", "--name", "os", "--label", "first"]);
    lab.ok(&["sync", "--to", "mirrors.toml"]);
    fs::remove_dir_all(lab.path("b")).unwrap();
    fs::rename(lab.path("before"), lab.path("b")).unwrap();
    lab.write("other.toml", "[[mirror]]\nname = \"b\"\nwrite = \"./b\"\n");
    let mut elsewhere = lab.command(&["publish", "one.img", "--name", "os", "--force", "--to", "other.toml", "-q"]);
    assert!(elsewhere.env("XDG_STATE_HOME", lab.path("elsewhere")).status().unwrap().success());
    assert_eq!(check_mirror(&lab.path("b"), "os", &lab.trust("os")), [2, 1]);
    lab.ok(&["sync", "--to", "mirrors.toml"]);
    for mirror in ["a", "b"] {
        assert_eq!(check_mirror(&lab.path(mirror), "os", &lab.trust("os"))[0], 3, "{mirror}");
    }
}

/// The list of images names an image whose heads are all lost.
#[test]
fn an_image_without_a_head_is_not_called_absent() {
    let lab = Lab::with_mirrors(&["a"]);
    two_images(&lab, 60);
    lab.publish(&["one.img", "--name", "os"]);
    fs::remove_file(lab.path("a/os.head")).unwrap();
    for more in [&[][..], &["--image", "os"]] {
        let said = lab.fails(3, &[&["sync", "--to", "mirrors.toml"][..], more].concat());
        assert!(said.contains("os: the mirrors list this image, and none of them has a head of it"), "{said}");
    }
}

fn copy_tree(lab: &Lab, from: &str, to: &str) {
    let status = Command::new("cp").arg("-a").args([lab.path(from), lab.path(to)]).status().unwrap();
    assert!(status.success());
}
