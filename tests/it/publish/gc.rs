//! `hfl gc`: what is removed, what stays, and when nothing may be removed.

use std::collections::BTreeSet;
use std::fs;

use crate::support::lab::{Lab, Random, check_mirror, make_ext4, make_tree, two_images};

/// Four versions of `os`, each with files of its own, and one version of `other`, which is equal to the second of them.
fn repository() -> Lab {
    let lab = Lab::with_mirrors(&["a", "b"]);
    lab.ok(&["key", "new", "other"]);
    make_tree(&lab.path("tree"), 200, 5);
    for version in 1..=4_u64 {
        for i in 0..20 {
            lab.write(&format!("tree/own/{i}"), Random(100 * version + i).bytes(60_000));
        }
        make_ext4(&lab.path("tree"), &lab.path("os.img"), "32M");
        lab.publish(&["os.img"]);
        if version == 2 {
            lab.publish(&["os.img", "--name", "other"]);
        }
    }
    lab
}

fn gc(lab: &Lab, arguments: &[&str]) -> serde_json::Value {
    let all: Vec<&str> = ["gc", "--to", "mirrors.toml", "--json"].iter().chain(arguments).copied().collect();
    serde_json::from_str(&lab.ok(&all)).unwrap()
}

fn blocks(lab: &Lab, mirror: &str) -> BTreeSet<String> {
    lab.files(mirror).into_iter().filter(|f| f.starts_with("blocks/")).collect()
}

#[test]
fn old_versions_are_marked_first_and_removed_after_the_grace_period() {
    let lab = repository();
    let before = blocks(&lab, "a");
    let plan = gc(&lab, &["--keep", "2", "--image", "os", "--dry-run"]);
    assert_eq!(plan["marked"][0]["retired"], serde_json::json!([2, 1]));
    assert_eq!(plan["swept"]["mirrors"], serde_json::json!([]), "no mirror is in doubt");
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [4, 3, 2, 1], "a dry run changes nothing");

    let marked = gc(&lab, &["--keep", "2", "--image", "os"]);
    assert_eq!(marked["marked"][0]["kept"], serde_json::json!([4, 3]));
    assert_eq!(marked["swept"]["pending"].as_array().unwrap().len(), 2, "{marked}");
    assert_eq!(check_mirror(&lab.path("b"), "os", &lab.trust("os")), [4, 3]);
    assert_eq!(blocks(&lab, "a"), before, "nothing goes before its time");

    let plan = gc(&lab, &["--keep", "2", "--grace-days", "0", "--dry-run"]);
    assert_eq!(blocks(&lab, "a"), before);
    let swept = gc(&lab, &["--keep", "2", "--grace-days", "0"]);
    let gone = before.difference(&blocks(&lab, "a")).count();
    assert_eq!(swept["swept"]["blocks"], gone);
    assert_eq!(plan["swept"]["blocks"], gone, "the dry run said so");
    assert!(gone > 3, "{gone} blocks");
    for mirror in ["a", "b"] {
        assert_eq!(check_mirror(&lab.path(mirror), "os", &lab.trust("os")), [4, 3]);
        assert_eq!(check_mirror(&lab.path(mirror), "other", &lab.trust("other")), [1], "shares blocks with version 2");
        let left: Vec<String> =
            lab.files(mirror).into_iter().filter(|f| f.contains("retired") || f.contains("os/2-")).collect();
        assert_eq!(left, Vec::<String>::new());
    }
    assert_eq!(gc(&lab, &["--keep", "2", "--grace-days", "0"])["swept"]["blocks"], 0);
    println!("{gone} of {} blocks went, two images live", before.len());
}

/// The state after a collection that died while it replaced the heads.
#[test]
fn a_mirror_whose_head_was_not_replaced_gets_it_with_the_next_run() {
    let lab = repository();
    let old = fs::read(lab.path("b/os.head")).unwrap();
    gc(&lab, &["--keep", "2"]);
    fs::write(lab.path("b/os.head"), old).unwrap();
    let again = gc(&lab, &["--keep", "2"]);
    assert_eq!(again["marked"][0]["retired"], serde_json::json!([]), "{again}");
    assert_eq!(check_mirror(&lab.path("b"), "os", &lab.trust("os")), [4, 3]);
    assert!(fs::read(lab.path("a/os.head")).unwrap() == fs::read(lab.path("b/os.head")).unwrap());
}

#[test]
fn young_versions_stay() {
    let lab = repository();
    let report = gc(&lab, &["--keep", "1", "--keep-days", "1", "--grace-days", "0"]);
    assert_eq!(report["marked"][0]["retired"], serde_json::json!([]));
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [4, 3, 2, 1]);
}

/// Retires all versions but the newest, damages something on the mirrors `doubtful`, and expects that nothing is
/// removed from them. From the others, if any, everything that is due is removed.
fn leaves_alone(damage: impl FnOnce(&Lab), doubtful: &[&str], code: i32, said: &str) {
    let lab = repository();
    gc(&lab, &["--keep", "1", "--image", "os", "--more-than-half"]);
    damage(&lab);
    let there = |mirror: &str| lab.path(mirror).is_dir().then(|| blocks(&lab, mirror));
    let before = ["a", "b"].map(|mirror| (mirror, there(mirror)));
    let output = lab.run(&["gc", "--to", "mirrors.toml", "--image", "other", "--grace-days", "0"]);
    let text = crate::support::lab::stderr(&output) + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(crate::support::lab::code(&output), code, "{text}");
    assert!(text.contains(said), "{text}");
    for (mirror, before) in before {
        assert_eq!(there(mirror) == before, doubtful.contains(&mirror), "mirror {mirror}: {text}");
    }
    if lab.path("home/.config/hfl/keys/os.key").exists() && !doubtful.contains(&"a") {
        assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [4]);
        assert_eq!(check_mirror(&lab.path("a"), "other", &lab.trust("other")), [1]);
    }
}

#[test]
fn nothing_goes_from_a_mirror_while_there_is_a_doubt_about_it() {
    let remove = |file: &'static str| move |lab: &Lab| fs::remove_file(lab.path(file)).unwrap();
    leaves_alone(remove("b/other.head"), &["b"], 6, "the head of other is missing");
    leaves_alone(
        |lab| {
            let mut head = fs::read(lab.path("a/os.head")).unwrap();
            let at = head.len() / 2;
            head[at] ^= 1;
            fs::write(lab.path("a/os.head"), head).unwrap();
        },
        &["a"],
        6,
        "so nothing can be removed",
    );
    leaves_alone(
        |lab| {
            fs::rename(lab.path("b"), lab.path("away")).unwrap();
            lab.write("b", "no directory");
        },
        &["b"],
        6,
        "so nothing can be removed",
    );
    leaves_alone(
        |lab| {
            for mirror in ["a", "b"] {
                let index =
                    lab.files(mirror).into_iter().find(|f| f.starts_with("index/other/") && f.ends_with(".idx"));
                fs::remove_file(lab.path(mirror).join(index.unwrap())).unwrap();
            }
        },
        &["a", "b"],
        3,
        "no mirror has a good index",
    );
    leaves_alone(
        |lab| {
            fs::remove_file(lab.path("home/.config/hfl/keys/other.pub"))
                .and_then(|()| fs::remove_file(lab.path("home/.config/hfl/keys/other.key")))
                .unwrap();
            fs::remove_file(lab.path("b/other.head")).unwrap();
        },
        &["a", "b"],
        3,
        "no mirror has a head of it that verifies",
    );
}

#[test]
fn more_than_half_is_refused_before_anything_is_retired() {
    let lab = Lab::with_mirrors(&["a"]);
    lab.write("os.img", Random(1).bytes(6 << 20));
    lab.publish(&["os.img", "--split", "fixed"]);
    lab.write("os.img", Random(2).bytes(1 << 20));
    lab.publish(&["os.img", "--split", "fixed"]);
    let said = lab.fails(2, &["gc", "--to", "mirrors.toml", "--keep", "1", "--grace-days", "0"]);
    assert!(said.contains("25 of 30 objects would be removed: more than half"), "24 blocks and an index: {said}");
    assert_eq!(blocks(&lab, "a").len(), 28);
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [2, 1]);
    gc(&lab, &["--keep", "1", "--more-than-half"]);
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [2]);
    // Retired versions are removed without a second `--more-than-half`.
    let swept = gc(&lab, &["--keep", "1", "--grace-days", "0"]);
    assert_eq!((&swept["swept"]["blocks"], blocks(&lab, "a").len()), (&24.into(), 4));
}

#[test]
fn one_version_can_be_retired() {
    let lab = repository();
    gc(&lab, &["--image", "os", "--retire", "2", "--grace-days", "0"]);
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [4, 3, 1]);
    let said = lab.fails(2, &["gc", "--to", "mirrors.toml", "--image", "os", "--retire", "4"]);
    assert!(said.contains("is the newest one and stays"), "{said}");
}

#[test]
fn a_version_that_came_back_keeps_its_blocks() {
    let lab = Lab::with_mirrors(&["a"]);
    two_images(&lab, 200);
    lab.publish(&["one.img", "--name", "os"]);
    lab.publish(&["two.img", "--name", "os"]);
    gc(&lab, &["--keep", "1"]);
    lab.publish(&["one.img", "--name", "os"]);
    gc(&lab, &["--keep", "2", "--grace-days", "0"]);
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [3, 2]);
}
