//! Deltas: published, used by clients, synced, verified, repaired, collected.

use std::fs;
use std::path::Path;

use hfl::format::block::Block;
use hfl::format::head::SignedHead;
use hfl::format::index::Index;
use hfl::format::layout::RepoPath;
use hfl::format::update::Update;
use serde_json::Value;

use crate::support::lab::{Lab, Random, check_mirror, code, or_skip, real_image, stderr};
use crate::support::mounting::run;

/// Blocks of the images, all different, and their size.
const BLOCKS: usize = 24;
const BLOCK_BYTES: usize = 128 << 10;

/// Makes `one.img`, `two.img` and `three.img`: the same blocks, each with a few other bytes, in another order.
fn three_images(lab: &Lab) {
    let mut bytes = Random(1).bytes(BLOCKS * BLOCK_BYTES);
    for (seed, name) in [(2, "one.img"), (3, "two.img"), (4, "three.img")] {
        bytes.rotate_left(5 * BLOCK_BYTES);
        let mut random = Random(seed);
        for at in (500..bytes.len()).step_by(20_000) {
            bytes[at..at + 8].copy_from_slice(&random.next().to_le_bytes());
        }
        lab.write(name, &bytes);
    }
}

fn publish(lab: &Lab, image: &str, more: &[&str]) -> Value {
    lab.publish(&[&[image, "--name", "os", "--split", "fixed:128K"], more].concat())
}

fn add_mirror(lab: &Lab, name: &str) {
    let table = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    lab.write("mirrors.toml", format!("{table}[[mirror]]\nname = \"{name}\"\nwrite = \"./{name}\"\n"));
}

fn update(lab: &Lab, mirror: &str, from: u32, version: u32) -> Update {
    let head = fs::read(lab.path(mirror).join("os.head")).unwrap();
    let head = SignedHead::parse(&head).unwrap().verify(&lab.trust("os")).unwrap();
    let mut rows = Update::rows_in(&head, version.to_string().parse().unwrap());
    let (_, row) = rows.find(|(older, _)| older.number() == from).expect("an update");
    Update::parse(&fs::read(lab.path(mirror).join(row.path.as_str())).unwrap()).unwrap()
}

fn deltas(lab: &Lab, mirror: &str) -> Vec<String> {
    let base = lab.path(mirror).join("deltas");
    if base.is_dir() { lab.files(&format!("{mirror}/deltas")) } else { Vec::new() }
}

fn index(mirror: &Path, version: u32) -> Index {
    let files = fs::read_dir(mirror.join("index/os")).unwrap().map(|entry| entry.unwrap().path());
    let start = format!("{version}-");
    let is_it = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(&start) && name.ends_with(".idx")
    };
    Index::parse(&fs::read(files.into_iter().find(is_it).unwrap()).unwrap()).unwrap()
}

fn block(mirror: &Path, row: &hfl::format::block::BlockRow) -> Block {
    Block::open(row, &fs::read(mirror.join(RepoPath::block(&row.id).as_str())).unwrap()).unwrap()
}

/// Fetches a version into the cache of `home`; returns the report.
fn fetch(lab: &Lab, home: &str, source: &str, version: &str) -> Value {
    let key = lab.path("home/.config/hfl/keys/os.pub");
    let arguments = ["fetch", "--json", "--version", version, "--key", key.to_str().unwrap(), source];
    let output = run(&lab.path(home), &[&arguments[..], &["--allow-rollback"]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn clients_with_the_old_version_download_deltas() {
    let lab = Lab::with_mirrors(&["m"]);
    three_images(&lab);
    publish(&lab, "one.img", &["--deltas"]);
    assert!(deltas(&lab, "m").is_empty(), "there is no older version");
    let report = publish(&lab, "two.img", &["--deltas"]);
    let told = &report["updates"][0];
    assert_eq!(
        (told["from"].as_u64(), told["blocks"].as_u64(), told["deltas"].as_u64()),
        (Some(1), Some(24), Some(24))
    );
    assert!(told["download_bytes"].as_u64() < told["block_bytes"].as_u64().map(|all| all / 8), "{told}");

    let (m, update) = (lab.path("m"), update(&lab, "m", 1, 2));
    assert_eq!((deltas(&lab, "m").len(), update.deltas().len()), (24, 24));
    let new = index(&m, 2);
    for delta in update.deltas() {
        let row = new.blocks().iter().find(|row| row.id == delta.id).expect("a block of the new version");
        let prefix: Vec<u8> = update.bases_of(delta).flat_map(|base| block(&m, base).to_vec()).collect();
        let file = fs::read(m.join(RepoPath::delta(&delta.sha256).as_str())).unwrap();
        assert_eq!(file.len(), delta.bytes as usize);
        assert_eq!(*Block::open_delta(row, &prefix, &file).unwrap(), *block(&m, row));
        assert!(Block::open_delta(row, &prefix[1..], &file).is_err() && Block::open(row, &file).is_err());
    }

    let source = m.join("os").display().to_string();
    let (first, second) = (fetch(&lab, "c", &source, "1"), fetch(&lab, "c", &source, "2"));
    assert_eq!((first["delta_blocks"].as_u64(), second["delta_blocks"].as_u64()), (Some(0), Some(24)));
    assert_eq!(second["fetched_bytes"], told["delta_bytes"], "{second}");
    assert_eq!(
        second["delta_saved_bytes"],
        told["block_bytes"].as_u64().unwrap() - told["delta_bytes"].as_u64().unwrap()
    );
    assert_eq!(check_mirror(&lab.path("c/cache/hfl"), "os", &lab.trust("os"))[0], 2, "the cache is a mirror");

    let answer: Value =
        serde_json::from_str(&lab.ok(&["diff", "os@1", "os@2", "--to", "mirrors.toml", "--json"])).unwrap();
    assert_eq!(answer["with_deltas"]["deltas"].as_u64(), Some(24));
    assert!(answer["with_deltas"]["download_bytes"].as_u64() < answer["download_bytes"].as_u64().map(|all| all / 3));
    let text = lab.ok(&["diff", "os@1", "os@2", "--to", "mirrors.toml"]);
    assert!(text.contains("with 24 deltas"), "{text}");
    lab.ok(&["verify", "--to", "mirrors.toml", "--deep"]);

    // Without --deltas nothing is made; what is there stays.
    let third = publish(&lab, "three.img", &[]);
    assert_eq!((third["updates"].as_array().unwrap().len(), deltas(&lab, "m").len()), (0, 24));
}

#[test]
fn two_versions_back() {
    let lab = Lab::with_mirrors(&["m"]);
    three_images(&lab);
    publish(&lab, "one.img", &[]);
    publish(&lab, "two.img", &[]);
    let planned = publish(&lab, "three.img", &["--deltas=2", "--dry-run"]);
    assert!(deltas(&lab, "m").is_empty(), "a dry run writes nothing");
    let report = publish(&lab, "three.img", &["--deltas=2"]);
    let from = |report: &Value, i: usize| report["updates"][i]["from"].as_u64();
    assert_eq!((from(&report, 0), from(&report, 1), from(&report, 2)), (Some(2), Some(1), None));
    assert_eq!(planned["updates"], report["updates"]);
    let files = |report: &Value| report["mirrors"][0]["files"].as_u64().unwrap();
    assert!(files(&planned).abs_diff(files(&report)) <= 1, "{planned} {report}");
    let source = lab.path("m/os").display().to_string();
    fetch(&lab, "c", &source, "1");
    let fetched = fetch(&lab, "c", &source, "3");
    assert_eq!(fetched["delta_blocks"].as_u64(), Some(24));
}

#[test]
fn a_copy_of_the_old_image_saves_reading_it_from_the_mirrors() {
    let lab = Lab::with_mirrors(&["m"]);
    three_images(&lab);
    publish(&lab, "one.img", &[]);
    let path = lab.path("m/blocks");
    fs::rename(&path, lab.path("away")).unwrap();
    let nothing = publish(&lab, "two.img", &["--deltas", "--dry-run"]);
    assert_eq!(nothing["updates"].as_array().unwrap().len(), 0, "the old blocks cannot be read: {nothing}");
    let report = publish(&lab, "two.img", &["--deltas", "--base", "one.img", "--dry-run"]);
    assert_eq!(report["updates"][0]["deltas"].as_u64(), Some(24));
    // A copy of something else is of no use, and does no harm.
    let other = publish(&lab, "two.img", &["--deltas", "--base", "three.img", "--dry-run"]);
    assert_eq!(other["updates"].as_array().unwrap().len(), 0, "{other}");
    let arguments = ["publish", "two.img", "--name", "os", "--to", "mirrors.toml", "--base", "one.img"];
    let said = lab.fails(2, &arguments);
    assert!(said.contains("--base names an old image, and deltas are made from 0 versions: say --deltas=1"), "{said}");
    let said = lab.fails(1, &[&arguments[..7], &["none.img", "--deltas"]].concat());
    assert!(said.contains("none.img"), "{said}");
    fs::rename(lab.path("away"), &path).unwrap();
    let mut piped = lab.command(&[
        "publish",
        "-",
        "--name",
        "os",
        "--split",
        "fixed:128K",
        "--deltas",
        "--to",
        "mirrors.toml",
        "--json",
    ]);
    let output = piped.stdin(fs::File::open(lab.path("two.img")).unwrap()).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(report["updates"][0]["deltas"].as_u64(), Some(24), "from standard input");
}

#[test]
fn mirrors_get_deltas_by_sync_and_repair_and_lose_them_with_either_version() {
    let lab = Lab::with_mirrors(&["m"]);
    three_images(&lab);
    publish(&lab, "one.img", &[]);
    publish(&lab, "two.img", &["--deltas"]);
    add_mirror(&lab, "n");
    lab.ok(&["sync", "--to", "mirrors.toml"]);
    assert_eq!(deltas(&lab, "n"), deltas(&lab, "m"));

    let names: Vec<String> = deltas(&lab, "n");
    let at = |i: usize| lab.path("n/deltas").join(&names[i]);
    fs::remove_file(at(0)).unwrap();
    fs::write(at(1), b"short").unwrap();
    let mut wrong = fs::read(at(2)).unwrap();
    wrong[9] ^= 1;
    fs::write(at(2), wrong).unwrap();
    lab.write("n/deltas/00/0000000000000000000000000000000000000000000000000000000000000000", b"a stray");
    lab.write("n/update/os/9-8-0123456789ab.update", b"of a publisher that was killed");
    let found = lab.run(&["verify", "--to", "mirrors.toml", "--deep", "--json"]);
    assert_eq!(code(&found), 3, "{}", stderr(&found));
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    let kinds: Vec<&str> = found["problems"].as_array().unwrap().iter().map(|p| p["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "stray").count(), 2, "{found}");
    assert_eq!(kinds.len(), 5, "{found}");
    for kind in ["missing", "truncated", "wrong", "stray"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    lab.ok(&["verify", "--to", "mirrors.toml", "--deep", "--repair"]);
    fs::remove_file(lab.path("n/deltas/00/0000000000000000000000000000000000000000000000000000000000000000")).unwrap();
    fs::remove_file(lab.path("n/update/os/9-8-0123456789ab.update")).unwrap();
    lab.ok(&["verify", "--to", "mirrors.toml", "--deep"]);
    assert_eq!(deltas(&lab, "n"), deltas(&lab, "m"));

    publish(&lab, "three.img", &["--deltas"]);
    let kept: Vec<String> =
        update(&lab, "m", 2, 3).deltas().iter().map(|row| RepoPath::delta(&row.sha256).to_string()).collect();
    lab.ok(&["gc", "--to", "mirrors.toml", "--keep", "2", "--grace-days", "0", "--more-than-half"]);
    for mirror in ["m", "n"] {
        let left = deltas(&lab, mirror);
        assert_eq!(left.len(), 24);
        assert!(left.iter().all(|name| kept.contains(&format!("deltas/{name}"))));
        let lists = lab.files(&format!("{mirror}/update"));
        assert!(lists.iter().all(|name| name.contains("/3-2-")) && lists.len() == 2, "{lists:?}");
    }
    lab.ok(&["verify", "--to", "mirrors.toml", "--deep"]);
    lab.ok(&["gc", "--to", "mirrors.toml", "--keep", "1", "--grace-days", "0", "--more-than-half"]);
    assert!(deltas(&lab, "m").is_empty() && deltas(&lab, "n").is_empty());
    lab.ok(&["verify", "--to", "mirrors.toml", "--deep"]);
}

#[test]
fn an_update_that_is_lost_keeps_no_mirror_behind() {
    let lab = Lab::with_mirrors(&["m"]);
    three_images(&lab);
    publish(&lab, "one.img", &[]);
    publish(&lab, "two.img", &["--deltas"]);
    let list = lab.files("m/update").into_iter().find(|name| name.ends_with(".update")).unwrap();
    lab.write(&format!("m/update/{list}"), b"rotten");
    add_mirror(&lab, "n");
    let out = lab.run(&["sync", "--to", "mirrors.toml"]);
    assert_eq!(code(&out), 0, "{}", stderr(&out));
    assert!(stderr(&out).contains("is not offered any more"), "{}", stderr(&out));
    // The mirrors agree, and what is left of the update is stray.
    let found: Value = serde_json::from_str(&lab.ok(&["verify", "--to", "mirrors.toml", "--deep", "--json"])).unwrap();
    let kinds = found["problems"].as_array().unwrap().iter().map(|p| p["kind"].as_str().unwrap());
    assert!(kinds.clone().count() > 0 && kinds.clone().all(|kind| kind == "stray"), "{found}");
    assert_eq!(check_mirror(&lab.path("n"), "os", &lab.trust("os")), [2, 1]);
    lab.ok(&["diff", "os@1", "os@2", "--to", "mirrors.toml"]);

    // Where no mirror has to be brought up to date, a listing finds it.
    publish(&lab, "three.img", &["--deltas"]);
    for mirror in ["m", "n"] {
        let list = lab.files(&format!("{mirror}/update")).into_iter().find(|name| name.contains("/3-2-")).unwrap();
        fs::remove_file(lab.path(&format!("{mirror}/update/{list}"))).unwrap();
    }
    let diff = lab.run(&["diff", "os@2", "os@3", "--to", "mirrors.toml"]);
    assert!(code(&diff) == 0 && stderr(&diff).contains("the download with deltas is not known"), "{}", stderr(&diff));
    let found = lab.run(&["verify", "--to", "mirrors.toml", "--repair"]);
    let text = String::from_utf8_lossy(&found.stdout);
    assert!(code(&found) == 3 && text.contains("hfl sync --check list"), "{text}");
    lab.ok(&["sync", "--to", "mirrors.toml"]);
    assert_eq!(code(&lab.run(&["verify", "--to", "mirrors.toml"])), 3, "its head names it still");
    lab.ok(&["sync", "--to", "mirrors.toml", "--check", "list"]);
    lab.ok(&["verify", "--to", "mirrors.toml", "--deep"]);

    // So it does where a delta is lost.
    publish(&lab, "one.img", &["--deltas"]);
    let delta = RepoPath::delta(&update(&lab, "m", 3, 4).deltas()[0].sha256).to_string();
    for mirror in ["m", "n"] {
        fs::remove_file(lab.path(mirror).join(&delta)).unwrap();
    }
    assert_eq!(code(&lab.run(&["verify", "--to", "mirrors.toml", "--repair"])), 3);
    lab.ok(&["sync", "--to", "mirrors.toml", "--check", "list"]);
    lab.ok(&["verify", "--to", "mirrors.toml", "--deep"]);
}

#[test]
fn restores_make_blocks_from_the_old_image() {
    let lab = Lab::with_mirrors(&["m"]);
    three_images(&lab);
    publish(&lab, "one.img", &[]);
    publish(&lab, "two.img", &["--deltas"]);
    let new = fs::read(lab.path("two.img")).unwrap();
    let restore = |out: &str, more: &[&str]| -> Value {
        let report = lab.ok(&[&["restore", "m/os", out, "--json"], more].concat());
        assert!(fs::read(lab.path(out)).unwrap() == new, "{out}: {report}");
        serde_json::from_str(&report).unwrap()
    };
    let made = |report: &Value| (report["fetched_blocks"].as_u64().unwrap(), report["delta_blocks"].as_u64().unwrap());
    assert_eq!(made(&restore("a.img", &["--seed", "one.img"])), (24, 24));
    // In place, the old blocks are overwritten, and all of them were moved by the rotation.
    fs::copy(lab.path("one.img"), lab.path("b.img")).unwrap();
    assert_eq!(made(&restore("b.img", &["--in-place"])), (24, 24));
    assert_eq!(made(&restore("b.img", &["--in-place"])), (0, 0), "nothing is left to do");
    // Of another version that has no update, nothing can be made.
    fs::copy(lab.path("three.img"), lab.path("c.img")).unwrap();
    assert_eq!(made(&restore("c.img", &["--in-place", "--force"])), (24, 0));
    // Deltas that are missing, and a seed that is damaged in one block.
    let mut damaged = fs::read(lab.path("one.img")).unwrap();
    damaged[3 * BLOCK_BYTES + 7] ^= 1;
    lab.write("damaged.img", &damaged);
    assert_eq!(made(&restore("d.img", &["--seed", "damaged.img"])), (24, 23));
    fs::remove_dir_all(lab.path("m/deltas")).unwrap();
    assert_eq!(made(&restore("e.img", &["--seed", "one.img"])), (24, 0));
}

/// What the whole is for: an update of a rebuilt Debian costs a third.
#[test]
fn a_rebuilt_debian_costs_a_third() {
    let images = ["old.img", "new.img"].map(|name| real_image("small", name));
    let [old, new] = images;
    let (Some(old), Some(new)) = (or_skip(old), or_skip(new)) else { return };
    let lab = Lab::with_mirrors(&["m"]);
    lab.publish(&[old.to_str().unwrap(), "--name", "os"]);
    let report = lab.publish(&[new.to_str().unwrap(), "--name", "os", "--deltas"]);
    let source = lab.path("m/os").display().to_string();
    fetch(&lab, "c", &source, "1");
    let fetched = fetch(&lab, "c", &source, "2");
    let (new_bytes, bytes) =
        (report["new"]["zlib_bytes"].as_f64().unwrap(), fetched["fetched_bytes"].as_f64().unwrap());
    println!("{bytes} of {new_bytes} bytes");
    assert!(bytes <= 0.4 * new_bytes, "{bytes} of {new_bytes}");
}
