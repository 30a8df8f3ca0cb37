//! hfl gc: what goes, what stays, and when nothing may go.

use std::collections::BTreeSet;
use std::fs;

use crate::lab::{Lab, Random, check_mirror, make_ext4, make_tree, two_images};

/// Four versions of `os`, each with files of its own, and one of `other` that is the second of them.
fn repository() -> Lab {
    let lab = Lab::with_mirrors(&["a", "b"]);
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

/// As when a collection dies while it replaces the heads.
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

/// Marks all but the newest version, damages something, and expects that nothing is removed.
fn refuses(damage: impl FnOnce(&Lab), code: i32, said: &str) {
    let lab = repository();
    gc(&lab, &["--keep", "1", "--image", "os"]);
    damage(&lab);
    let before = (blocks(&lab, "a"), lab.path("b").is_dir().then(|| blocks(&lab, "b")));
    let error = lab.fails(code, &["gc", "--to", "mirrors.toml", "--image", "other", "--grace-days", "0"]);
    assert!(error.contains(said), "{error}");
    assert_eq!((blocks(&lab, "a"), lab.path("b").is_dir().then(|| blocks(&lab, "b"))), before);
}

#[test]
fn nothing_goes_while_there_is_a_doubt() {
    refuses(|lab| fs::remove_file(lab.path("b/other.head")).unwrap(), 3, "the head of other is missing");
    refuses(
        |lab| {
            let mut head = fs::read(lab.path("a/os.head")).unwrap();
            let at = head.len() / 2;
            head[at] ^= 1;
            fs::write(lab.path("a/os.head"), head).unwrap();
        },
        3,
        "so nothing can be removed",
    );
    refuses(
        |lab| {
            fs::rename(lab.path("b"), lab.path("away")).unwrap();
            lab.write("b", "no directory");
        },
        1,
        "so nothing can be removed",
    );
    refuses(
        |lab| {
            for mirror in ["a", "b"] {
                let index =
                    lab.files(mirror).into_iter().find(|f| f.starts_with("index/other/") && f.ends_with(".idx"));
                fs::remove_file(lab.path(mirror).join(index.unwrap())).unwrap();
            }
        },
        3,
        "no mirror has a good index of other version 1",
    );
    refuses(
        |lab| {
            fs::remove_file(lab.path("home/.config/hfl/keys/os.pub"))
                .and_then(|()| fs::remove_file(lab.path("home/.config/hfl/keys/os.key")))
                .unwrap()
        },
        3,
        "put the public key of os as os.pub",
    );
}

#[test]
fn more_than_half_is_refused_unless_it_is_said() {
    let lab = Lab::with_mirrors(&["a"]);
    lab.write("os.img", Random(1).bytes(6 << 20));
    lab.publish(&["os.img", "--split", "fixed"]);
    lab.write("os.img", Random(2).bytes(1 << 20));
    lab.publish(&["os.img", "--split", "fixed"]);
    let said = lab.fails(2, &["gc", "--to", "mirrors.toml", "--keep", "1", "--grace-days", "0"]);
    assert!(said.contains("24 of 28 blocks would be removed: more than half"), "{said}");
    assert_eq!(blocks(&lab, "a").len(), 28);
    let swept = gc(&lab, &["--keep", "1", "--grace-days", "0", "--more-than-half"]);
    assert_eq!((&swept["swept"]["blocks"], blocks(&lab, "a").len()), (&24.into(), 4));
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
