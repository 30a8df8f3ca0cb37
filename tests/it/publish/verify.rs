//! `hfl verify` on a mirror damaged in every way. Each damage is reported as the right kind, nothing else is reported,
//! and whatever another mirror has intact is repaired to the last byte.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::lab::{Lab, Random, check_mirror, code, stderr};
use crate::support::mounting::WebServer;

/// Publishes two versions of a small image, with a client, to these mirrors.
fn published(mirrors: &[&str]) -> Lab {
    let lab = Lab::with_mirrors(mirrors);
    publish(&lab);
    lab
}

fn publish(lab: &Lab) {
    let toml = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    lab.write("client", client());
    lab.write("mirrors.toml", format!("[publish]\nclient = [\"client\"]\nsplit = \"fixed:64K\"\n{toml}"));
    lab.write("os.img", Random(1).bytes(1_500_000));
    lab.publish(&["os.img"]);
    let mut changed = fs::read(lab.path("os.img")).unwrap();
    changed[700_000..710_000].copy_from_slice(&Random(2).bytes(10_000));
    lab.write("os.img", changed);
    lab.publish(&["os.img"]);
}

/// The minimum accepted as a static client: the header of an x86-64 program, and its version.
fn client() -> Vec<u8> {
    let mut elf = vec![0; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[18] = 62;
    elf.extend_from_slice(hfl::publish::CLIENT_MARK);
    elf.extend_from_slice(b"9.9.9;");
    elf
}

/// Runs verify. Returns its exit code and its report.
fn verify(lab: &Lab, options: &[&str]) -> (i32, Value) {
    let arguments = [&["verify", "--to", "mirrors.toml", "--json"], options].concat();
    let output = lab.run(&arguments);
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|e| panic!("{e}: {} {}", code(&output), stderr(&output)));
    (code(&output), report)
}

/// The problems as `mirror place kind path`, followed by ` repaired` if they are.
fn problems(report: &Value) -> Vec<String> {
    let problems = report["problems"].as_array().unwrap().iter().map(|p| {
        let text = |key: &str| p[key].as_str().unwrap();
        let repaired = if p["repaired"] == true { " repaired" } else { "" };
        format!("{} {} {} {}{repaired}", text("mirror"), text("place"), text("kind"), text("path"))
    });
    problems.collect()
}

fn find(lab: &Lab, mirror: &str, wanted: impl Fn(&str) -> bool) -> String {
    lab.files(mirror).into_iter().find(|f| wanted(f)).expect("such a file")
}

/// A way to damage a file: its name, the damage, and the kind of problem that verify reports.
type Damage = (&'static str, fn(&PathBuf), &'static str);

const DAMAGES: [Damage; 5] = [
    ("delete", |file| fs::remove_file(file).unwrap(), "missing"),
    ("truncate", |file| change(file, |bytes| bytes.truncate(bytes.len() / 2)), "truncated"),
    ("empty", |file| change(file, Vec::clear), "truncated"),
    ("flip", |file| change(file, |bytes| bytes[80] ^= 1), "wrong"),
    ("lengthen", |file| change(file, |bytes| bytes.extend([b'x'; 9000])), "wrong"),
];

fn change(file: &PathBuf, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
}

/// Checks that every file of mirror `a` is the same on mirror `b`.
fn same(lab: &Lab) {
    assert_eq!(lab.files("a"), lab.files("b"));
    for file in lab.files("a") {
        let read = |mirror: &str| fs::read(lab.path(mirror).join(&file)).unwrap();
        assert!(read("a") == read("b"), "{file}");
    }
}

#[test]
fn a_good_repository_has_no_problem() {
    let lab = published(&["a", "b"]);
    for options in [&[][..], &["--deep"], &["--repair"], &["--mirror", "b"], &["--image", "os"], &["--unsigned"]] {
        let (code, report) = verify(&lab, options);
        assert_eq!((code, problems(&report)), (0, vec![]), "{options:?}");
    }
    let (_, report) = verify(&lab, &["--deep"]);
    let blocks = lab.files("a").iter().filter(|f| f.starts_with("blocks/")).count() as u64;
    let checked = &report["mirrors"][0];
    // A list of images, a head, two indexes, a client, and three signatures.
    assert_eq!(checked["objects"], blocks + 8);
    assert_eq!((&checked["read"], &checked["strays"]), (&Value::from(blocks + 6), &Value::from(0)));
    let text = lab.ok(&["verify", "--to", "mirrors.toml"]);
    assert!(text.contains("mirror  a: all right"), "{text}");
    assert_eq!(lab.ok(&["verify", "--to", "mirrors.toml", "-q"]), "");
    same(&lab);
}

#[test]
fn every_damage_is_found_and_mended() {
    let lab = published(&["a", "b"]);
    type Wanted = fn(&str) -> bool;
    let kinds: [(&str, Wanted); 6] = [
        ("block", |f| f.starts_with("blocks/")),
        ("index", |f| f.contains("/2-") && f.ends_with(".idx")),
        ("old index", |f| f.contains("/1-") && f.ends_with(".idx")),
        ("signature", |f| f.contains("/2-") && f.ends_with(".minisig")),
        ("file", |f| f.starts_with("client/") && !f.ends_with(".minisig")),
        ("file's signature", |f| f.starts_with("client/") && f.ends_with(".minisig")),
    ];
    let mut damaged = 0;
    for (object, wanted) in kinds {
        for (name, damage, kind) in DAMAGES {
            let path = find(&lab, "a", wanted);
            damage(&lab.path("a").join(&path));
            let what = format!("{name} {object}");
            // A truncated signature is not a signature. For a client's signature, the head states the length.
            let kind = if name == "truncate" && object == "signature" { "wrong" } else { kind };
            let (code, report) = verify(&lab, &["--deep"]);
            assert_eq!((code, problems(&report)), (3, vec![format!("a store {kind} {path}")]), "{what}");
            let (code, report) = verify(&lab, &["--deep", "--repair"]);
            assert_eq!((code, problems(&report)), (0, vec![format!("a store {kind} {path} repaired")]), "{what}");
            same(&lab);
            damaged += 1;
        }
    }
    assert_eq!(verify(&lab, &["--deep"]).0, 0);
    println!("{damaged} damages found and mended");
}

#[test]
fn heads_and_lists_of_images_are_mended_too() {
    let lab = published(&["a", "b"]);
    for (name, damage, kind) in DAMAGES {
        damage(&lab.path("a/os.head"));
        let (code, report) = verify(&lab, &[]);
        assert_eq!((code, problems(&report)), (3, vec![format!("a store {kind} os.head")]), "{name}");
        let (code, report) = verify(&lab, &["--repair"]);
        assert_eq!((code, problems(&report)), (0, vec![format!("a store {kind} os.head repaired")]), "{name}");
        same(&lab);
    }
    for (bytes, kind) in
        [(Some(&b""[..]), "wrong"), (Some(b"o\xf3\n"), "wrong"), (Some(b"os\n../x\n"), "wrong"), (None, "missing")]
    {
        match bytes {
            Some(bytes) => fs::write(lab.path("a/images"), bytes).unwrap(),
            None => fs::remove_file(lab.path("a/images")).unwrap(),
        }
        let (code, report) = verify(&lab, &[]);
        assert_eq!((code, problems(&report)), (3, vec![format!("a store {kind} images")]), "{bytes:?}");
        let (code, report) = verify(&lab, &["--repair"]);
        assert_eq!((code, problems(&report)), (0, vec![format!("a store {kind} images repaired")]), "{bytes:?}");
        same(&lab);
    }
}

#[test]
fn a_head_is_mended_only_where_it_would_tell_the_truth() {
    let lab = published(&["a", "b"]);
    let block = find(&lab, "a", |f| f.starts_with("blocks/"));
    fs::remove_file(lab.path("a").join(&block)).unwrap();
    fs::remove_file(lab.path("b").join(&block)).unwrap();
    fs::write(lab.path("a/os.head"), "nonsense\n").unwrap();
    let (code, report) = verify(&lab, &["--repair"]);
    let expected =
        [format!("a store missing {block}"), "a store wrong os.head".into(), format!("b store missing {block}")];
    assert_eq!((code, problems(&report)), (3, expected.to_vec()));
    let what: Vec<&str> = report["problems"].as_array().unwrap().iter().map(|p| p["what"].as_str().unwrap()).collect();
    assert!(what[0].ends_with("not repaired: no other mirror has it right"), "{what:?}");
    assert!(what[1].ends_with("not repaired: not everything that it promises is there"), "{what:?}");
    assert_eq!(fs::read(lab.path("a/os.head")).unwrap(), b"nonsense\n");
}

#[test]
fn many_damages_at_once_and_mirrors_that_heal_each_other() {
    let lab = published(&["a", "b"]);
    let blocks: Vec<String> = lab.files("a").into_iter().filter(|f| f.starts_with("blocks/")).collect();
    let at = |mirror: &str, i: usize| lab.path(mirror).join(&blocks[i]);
    fs::remove_file(at("a", 0)).unwrap();
    change(&at("a", 1), |bytes| bytes.truncate(100));
    fs::copy(at("a", 3), at("a", 2)).unwrap();
    change(&at("b", 4), |bytes| bytes[40] ^= 4);
    fs::remove_file(at("b", 5)).unwrap();
    fs::remove_file(at("a", 6)).unwrap();
    fs::remove_file(at("b", 6)).unwrap();
    fs::write(lab.path("a/blocks/zz"), "what is this").unwrap();
    let (code, report) = verify(&lab, &["--deep"]);
    let expected = |repaired: &str| {
        let mut all = vec![
            format!("a store missing {}{repaired}", blocks[0]),
            format!("a store missing {}", blocks[6]),
            format!("a store truncated {}{repaired}", blocks[1]),
            format!("a store wrong {}{repaired}", blocks[2]),
            "a store stray blocks/zz".into(),
            format!("b store missing {}{repaired}", blocks[5]),
            format!("b store missing {}", blocks[6]),
            format!("b store wrong {}{repaired}", blocks[4]),
        ];
        all.sort();
        all
    };
    let sorted = |report: &Value| {
        let mut all = problems(report);
        all.sort();
        all
    };
    assert_eq!((code, sorted(&report)), (3, expected("")));
    let (code, report) = verify(&lab, &["--deep", "--repair"]);
    assert_eq!((code, sorted(&report)), (3, expected(" repaired")));
    let text = lab.run(&["verify", "--to", "mirrors.toml"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains(&format!("missing     a  {}  not there", blocks[6])) && text.contains("1 PROBLEM"), "{text}");
    assert!(text.contains("1 stray, 12 B") && !text.contains("blocks/zz"), "{text}");
}

#[test]
fn strays_are_told_and_left_alone() {
    let lab = published(&["a"]);
    let block = find(&lab, "a", |f| f.starts_with("blocks/"));
    let stray = "blocks/00/00112233445566778899aabbccddeeff00112233";
    for file in [stray, "index/os/7-0123456789ab.idx", "probe-0011-swap"] {
        lab.write(&format!("a/{file}"), fs::read(lab.path("a").join(&block)).unwrap());
    }
    let (code, report) = verify(&lab, &["--repair"]);
    let expected = [stray, "index/os/7-0123456789ab.idx", "probe-0011-swap"].map(|f| format!("a store stray {f}"));
    assert_eq!((code, problems(&report)), (0, expected.to_vec()));
    assert!(lab.path("a").join(stray).exists());
    assert_eq!(report["mirrors"][0]["strays"], 3);
    let (_, report) = verify(&lab, &["--image", "os"]);
    assert!(report["mirrors"][0]["strays"].is_null(), "one image alone says nothing about strays");
}

#[test]
fn what_gc_has_retired_is_no_stray() {
    let lab = published(&["a", "b"]);
    lab.ok(&["gc", "--to", "mirrors.toml", "--keep", "1", "-q"]);
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [2]);
    let (code, report) = verify(&lab, &[]);
    assert_eq!((code, problems(&report)), (0, vec![]));
    assert_eq!(report["mirrors"][0]["strays"], 0);
}

#[test]
fn a_mirror_that_is_behind_is_not_damaged() {
    let lab = published(&["a", "b"]);
    fs::remove_dir_all(lab.path("b")).unwrap();
    let (code, report) = verify(&lab, &["--repair"]);
    assert_eq!((code, problems(&report)), (6, vec!["b store behind os.head".into()]));
    assert!(lab.files("b").is_empty(), "verify does not sync");
    lab.publish(&["os.img", "--first"]);
    let old = fs::read(lab.path("b/os.head")).unwrap();
    lab.publish(&["os.img", "--force"]);
    fs::write(lab.path("b/os.head"), old).unwrap();
    let (code, report) = verify(&lab, &[]);
    // What the newer head names is not a stray on the mirror that has not switched yet.
    assert_eq!((code, problems(&report)), (6, vec!["b store behind os.head".into()]));
    assert!(report["problems"][0]["what"].as_str().unwrap().contains("lacks version 3"), "{report}");
    assert_eq!(check_mirror(&lab.path("b"), "os", &lab.trust("os")), [2, 1]);
}

#[test]
fn the_public_url_is_checked_too() {
    let lab = Lab::new();
    let server = WebServer::new(&lab.path("shown"));
    lab.write(
        "mirrors.toml",
        format!("[[mirror]]\nname = \"a\"\nwrite = \"./a\"\nread = \"{}/\"\nread-back = false\n", server.url()),
    );
    publish(&lab);
    let toml = fs::read_to_string(lab.path("mirrors.toml")).unwrap().replace("read-back = false\n", "");
    lab.write("mirrors.toml", toml);
    let copied = std::process::Command::new("cp").arg("-a").arg(lab.path("a")).arg(lab.path("shown")).status().unwrap();
    assert!(copied.success());
    assert_eq!(verify(&lab, &[]).0, 0);

    let (block, index) = (find(&lab, "a", |f| f.starts_with("blocks/")), find(&lab, "a", |f| f.contains("/2-")));
    change(&lab.path("shown").join(&block), |bytes| bytes[30] ^= 1);
    fs::remove_file(lab.path("shown").join(&index)).unwrap();
    fs::write(lab.path("shown/os.head"), "<html>welcome</html>").unwrap();
    let (code, report) = verify(&lab, &["--sample", "1000", "--repair"]);
    let expected =
        [format!("a public missing {index}"), format!("a public wrong {block}"), "a public wrong os.head".into()];
    assert_eq!((code, problems(&report)), (3, expected.to_vec()));
    drop(server);
    let (code, report) = verify(&lab, &[]);
    assert_eq!(code, 3);
    let what = report["problems"][0]["what"].as_str().unwrap();
    assert!(
        report["problems"].as_array().unwrap().len() == 1 && what.contains("public URL cannot be reached"),
        "{what}"
    );
}

#[test]
fn what_cannot_be_checked_is_said() {
    let lab = published(&["a", "b"]);
    lab.write("file", "no directory");
    let toml = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    lab.write("more.toml", format!("{toml}\n[[mirror]]\nname = \"c\"\nwrite = \"./file\"\n"));
    let output = lab.run(&["verify", "--to", "more.toml", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((code(&output), problems(&report)), (6, vec![]));
    assert!(report["mirrors"][2]["why"].as_str().unwrap().contains("not a directory"), "{report}");
    assert!(lab.fails(1, &["verify", "--to", "more.toml", "--mirror", "c"]).contains("mirror c"));
    let text = lab.fails(2, &["verify", "--to", "mirrors.toml", "--mirror", "x"]);
    assert!(text.contains("no enabled mirror is named x") && text.contains("a, b"), "{text}");
    assert!(
        lab.fails(1, &["verify", "--to", "mirrors.toml", "--image", "x"]).contains("no mirror has an image named x")
    );
    let empty = Lab::with_mirrors(&["a"]);
    assert!(empty.fails(1, &["verify", "--to", "mirrors.toml"]).contains("there is no image"));
}

#[test]
fn images_of_somebody_else_are_not_called_damaged() {
    let lab = published(&["a"]);
    let key = lab.path("home/.config/hfl/keys/os.pub");
    let public = fs::read_to_string(&key).unwrap();
    lab.ok(&["key", "new", "other"]);
    lab.write("other.img", Random(5).bytes(100_000));
    lab.publish(&["other.img"]);
    assert_eq!(verify(&lab, &[]).1["images"], serde_json::json!(["os", "other"]));
    let other = lab.path("home/.config/hfl/keys/other.pub");
    let others = fs::read_to_string(&other).unwrap();
    fs::remove_file(other.with_extension("key")).unwrap();
    fs::remove_file(other).unwrap();
    let (code, report) = verify(&lab, &[]);
    assert_eq!((code, problems(&report)), (6, vec![]), "not all is known to be right");
    assert_eq!((&report["images"], &report["unchecked"]), (&serde_json::json!(["os"]), &serde_json::json!(["other"])));
    assert!(report["mirrors"][0]["strays"].is_null(), "its blocks are not strays");
    assert!(
        lab.fails(2, &["verify", "--to", "mirrors.toml", "--image", "other"]).contains("no key is known for other")
    );
    fs::remove_file(key.with_extension("key")).unwrap();
    fs::remove_file(&key).unwrap();
    assert!(lab.fails(2, &["verify", "--to", "mirrors.toml"]).contains("no key is known for os"));
    let with = |public: &str| verify(&lab, &["--key", public.lines().nth(1).unwrap()]);
    let (code, report) = with(&public);
    assert_eq!((code, problems(&report)), (3, vec!["a store wrong other.head".into()]));
    // Each image's client has a signature by that image's key.
    let (code, report) = with(&others);
    assert_eq!((code, problems(&report)), (3, vec!["a store wrong os.head".into()]));
    assert_eq!(verify(&lab, &["--unsigned"]).0, 0);
}

#[test]
fn repairing_waits_for_nobody_and_disturbs_nobody() {
    let lab = published(&["a", "b"]);
    let base = fs::File::open(lab.path("b")).unwrap();
    rustix::fs::flock(&base, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(verify(&lab, &["--deep"]).0, 0);
    let (code, report) = verify(&lab, &["--repair"]);
    assert_eq!((code, report["mirrors"][0]["why"].is_null()), (6, true), "the free mirror is checked: {report}");
    assert!(report["mirrors"][1]["why"].as_str().unwrap().contains("another publisher is at work"), "{report}");
    lab.fails(5, &["verify", "--to", "mirrors.toml", "--repair", "--mirror", "b"]);
    drop(base);
    assert_eq!(verify(&lab, &["--repair"]).0, 0);
}
