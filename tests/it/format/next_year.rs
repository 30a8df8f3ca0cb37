//! A repository as a later hfl may write it: today's programs read, mount, restore, verify and preserve
//! what they do not know, and change nothing where a note forbids it.

use std::fs;

use hfl::format::head::{Head, SignedHead};
use hfl::format::index::Index;
use hfl::format::layout::RepoPath;
use hfl::format::name::Version;

use crate::support::fixture::{Publish, image};
use crate::support::format_fixtures::{golden_path, golden_secret, golden_text};
use crate::support::lab::{Lab, Random, check_mirror};
use crate::support::mounting::{Mounted, cannot_mount};

/// A split rule that no current hfl knows.
const SPLIT: &str = "parts 3 pages 2 bytes 1 zstd 19";
const NOTES: [&str; 4] =
    ["deltas delta/test/7.list 4096 zstd", "keys test.keys 7", "keys test.keys 8", "x-owner A. Person <a@example.org>"];
const IMAGE_BYTES: usize = (2 << 20) + 512;

/// A lab whose mirror `public` holds version 1 of `test`, cut by an unknown rule, and files outside the
/// format.
fn next_year(notes: &[&str]) -> (Lab, Vec<u8>) {
    let lab = Lab::with_mirrors(&["public"]);
    let (base, bytes) = (lab.path("public"), image(IMAGE_BYTES));
    let key = golden_secret();
    let row = |path: &str, bytes: &[u8]| hfl::format::head::FileRow {
        path: path.parse().unwrap(),
        bytes: bytes.len() as u64,
        sha256: hfl::format::digest::Sha256::of(bytes),
    };
    let list = b"HFL-DELTAS 1\n".to_vec();
    let signature = key.sign(&list, "hfl file delta/test/7.list").unwrap();
    lab.write("public/delta/test/7.list.minisig", signature.text());
    let files = vec![(row("delta/test/7.list", &list), list)];
    let notes = notes.to_vec();
    let published = Publish { key: Some(&key), split: Some(SPLIT), notes, files, ..Publish::default() };
    let file = published.write(&base, &bytes).to_bytes();
    let digest = hfl::format::digest::Sha256::of(&file);
    let path = RepoPath::index(&"test".parse().unwrap(), Version::FIRST, &digest).signature();
    let signature = key.sign(&file, &format!("hfl index test 1 {digest}")).unwrap();
    lab.write(&format!("public/{path}"), signature.text());
    lab.write("public/images", "test\n");
    for file in ["test.head2", "test.keys", "index2/test/1-0123456789ab.idx", "zstd/ab/abcd", "chunks/readme"] {
        lab.write(&format!("public/{file}"), "of next year");
    }
    for file in ["key", "pub"] {
        lab.write(&format!("home/.config/hfl/keys/test.{file}"), golden_text(&format!("test-only.{file}")));
    }
    (lab, bytes)
}

fn head(lab: &Lab, mirror: &str) -> Head {
    let file = fs::read(lab.path(mirror).join("test.head")).unwrap();
    SignedHead::parse(&file).unwrap().verify(&lab.trust("test")).unwrap()
}

fn notes(lab: &Lab, mirror: &str) -> Vec<String> {
    head(lab, mirror).notes.iter().map(ToString::to_string).collect()
}

/// The split rule in the index of version `number`.
fn split(lab: &Lab, number: u32) -> String {
    let prefix = format!("index/test/{number}-");
    let files = lab.files("public");
    let path = files.iter().find(|f| f.starts_with(&prefix) && f.ends_with(".idx")).expect("an index");
    Index::parse(&fs::read(lab.path("public").join(path)).unwrap()).unwrap().header().split.to_string()
}

#[test]
fn it_is_read_restored_verified_and_carried_on() {
    let (lab, bytes) = next_year(&NOTES);
    lab.ok(&["restore", "public/test", "one.img", "-q"]);
    assert!(fs::read(lab.path("one.img")).unwrap() == bytes);
    let output = lab.run(&["verify", "--to", "mirrors.toml", "--deep", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(0), "{report}");
    assert!(lab.ok(&["log", "public/test"]).contains('1'));

    lab.write("test.img", Random(5).bytes(IMAGE_BYTES));
    let published = lab.publish(&["test.img"]);
    assert_eq!((&published["version"], &published["split"]), (&2.into(), &"content 2".into()), "{published}");
    assert_eq!((notes(&lab, "public"), split(&lab, 1).as_str()), (NOTES.map(str::to_owned).to_vec(), SPLIT));
    assert!(head(&lab, "public").files.iter().any(|file| file.path.as_str() == "delta/test/7.list"));

    lab.ok(&["rollback", "test", "1", "--to", "mirrors.toml"]);
    assert_eq!((split(&lab, 3).as_str(), notes(&lab, "public").len()), (SPLIT, 4), "words and notes are carried on");
    lab.ok(&["restore", "public/test", "three.img", "-q"]);
    assert!(fs::read(lab.path("three.img")).unwrap() == bytes);

    lab.write(
        "mirrors.toml",
        "[[mirror]]\nname = \"public\"\nwrite = \"./public\"\n[[mirror]]\nname = \"new\"\nwrite = \"./new\"\n",
    );
    lab.ok(&["sync", "--to", "mirrors.toml"]);
    assert_eq!(notes(&lab, "new"), NOTES);
    lab.ok(&["gc", "--keep", "1", "--image", "test", "--to", "mirrors.toml", "--more-than-half"]);
    assert_eq!(notes(&lab, "new"), NOTES, "versions are retired, notes are not");
    assert_eq!(check_mirror(&lab.path("public"), "test", &lab.trust("test")), [3]);
}

#[test]
fn it_is_mounted() {
    if cannot_mount() {
        return;
    }
    let (lab, bytes) = next_year(&NOTES);
    let key = golden_path("test-only.pub").display().to_string();
    let source = lab.path("public").display().to_string();
    let mounted = Mounted::new(&lab.path("home"), &["--key", &key, "--no-cache"], &[&source], "test");
    assert!(fs::read(mounted.file()).unwrap() == bytes);
    mounted.end();
}

/// A head is not replaced by an equivalent one. It is replaced if only a note differs.
#[test]
fn a_note_is_part_of_what_a_head_says() {
    let (lab, _) = next_year(&NOTES);
    let old = head(&lab, "public");
    let mut other = old.clone();
    assert!(old.says_the_same(&Head { created: old.created.plus_days(1), expires: Some(old.created), ..old.clone() }));
    other.notes.pop();
    assert!(!old.says_the_same(&other) && !other.says_the_same(&old));
    assert!(!old.says_the_same(&Head { mirrors: vec!["https://a.example/".parse().unwrap()], ..old.clone() }));
}

#[test]
fn a_seed_of_an_unknown_rule_is_told_and_the_rest_works_without() {
    let (lab, bytes) = next_year(&[]);
    lab.write("seed.img", &bytes);
    let said = lab.fails(1, &["restore", "public/test", "out.img", "--seed", "seed.img"]);
    let words = format!("seed.img: a seed must be cut as the image was: split rule `{SPLIT}`");
    assert!(said.contains(&words) && said.contains("update hfl") && said.contains("without --seed"), "{said}");
    assert!(!lab.path("out.img").exists());
}

#[test]
fn a_note_that_binds_publishers_stops_them_and_nobody_else() {
    let (lab, bytes) = next_year(&["must-write head2"]);
    let before = lab.files("public");
    lab.write("test.img", Random(5).bytes(IMAGE_BYTES));
    for arguments in [
        &["publish", "test.img", "--to", "mirrors.toml"][..],
        &["publish", "test.img", "--to", "mirrors.toml", "--dry-run"],
        &["publish", "test.img", "--to", "mirrors.toml", "--force"],
    ] {
        let said = lab.fails(1, arguments);
        assert!(said.contains("its head has the note `must-write head2`, which this hfl does not know"), "{said}");
        assert!(said.contains("update hfl"), "{said}");
    }
    // Blocks were sent before the note was seen, and the lock records unfinished work.
    let matters = |f: &String| !f.starts_with("blocks/") && f != "publish.lock";
    let left: Vec<String> = lab.files("public").into_iter().filter(matters).collect();
    assert_eq!(left, before.into_iter().filter(matters).collect::<Vec<_>>());
    lab.ok(&["restore", "public/test", "one.img", "-q"]);
    assert!(fs::read(lab.path("one.img")).unwrap() == bytes);
    lab.ok(&["verify", "--to", "mirrors.toml"]);

    // Another image of the repository may be published, but nothing is collected, because not all live
    // objects are known.
    lab.write("mirrors.toml", "[[mirror]]\nname = \"public\"\nwrite = \"./public\"\n");
    lab.write("other.img", Random(6).bytes(100_000));
    lab.publish(&["other.img"]);
    lab.write("other.img", Random(7).bytes(100_000));
    lab.publish(&["other.img"]);
    let gc = ["gc", "--keep", "1", "--image", "other", "--grace-days", "0", "--to", "mirrors.toml"];
    let said = lab.fails(1, &gc);
    assert!(said.contains("must-write head2"), "{said}");
}
